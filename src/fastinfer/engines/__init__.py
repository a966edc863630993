"""Engines: what turns images and prompts into scores. They know nothing of presets, names of models or results.

``scoring`` holds what every engine shares: the trie of labels and the arithmetic on it. ``llama`` drives llama.cpp.
"""
