"""llama.cpp in-process, over llama-cpp-python's low-level API.

``binding`` owns everything that is taken from llama-cpp-python; ``model`` holds weights and vocabulary, ``context``
the KV cache and its sequences, ``vision`` the image encoder, ``classify`` the engine that puts them together.
"""
