"""The command line: ``fastinfer`` demo, classify, chat, presets, explain, plan, doctor, tune, bench, compare, verify.

``entry`` is what the installed script calls and ``app`` puts the commands together; each command has a module of its
own. ``inputs`` reads what the user names, ``output`` is the only module that writes.
"""

from __future__ import annotations

from fastinfer.cli.entry import main

__all__ = ["main"]
