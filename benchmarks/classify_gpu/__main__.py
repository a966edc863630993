"""``python -m benchmarks.classify_gpu``: see the package."""

from __future__ import annotations

import sys

# Contenders are spawned, which imports this module again: nothing may be loaded there before they choose what.
if __name__ == "__main__":
    from .run import main

    sys.exit(main())
