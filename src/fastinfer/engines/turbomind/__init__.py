"""Image classification on LMDeploy's TurboMind: exact label probabilities at the speed of an NVIDIA GPU."""
