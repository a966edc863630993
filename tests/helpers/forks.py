"""A program that forks, for tests of what its child may do with the parent's engine."""

from __future__ import annotations

import os

import pytest

__all__ = ["fork_script", "forks"]

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

_SCRIPT = """
import asyncio, faulthandler, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks of a process with threads
{before}
codes = {{}}
for use in {uses!r}:
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(20, exit=True)
        code = 3
        try:
            exec(use)
        except fastinfer.errors.EngineDeadError as error:
            code = 0 if "fork" in str(error) and error.hint else 4
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            code = 5
        {after}
        os._exit(code)
    codes[use] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
{parent}  # the parent goes on
sys.exit({{use: code for use, code in codes.items() if code}} or 0)
"""


def fork_script(*uses: str, before: str, after: str, parent: str) -> str:
    """A program whose exit code is 0 where each use is refused in a child with an EngineDeadError that says why.

    Args:
        uses: what children do, each one of them.
        before: what happens before the forks.
        after: what a child does then.
        parent: what the parent does in the end, and has to succeed in.
    """
    return _SCRIPT.format(before=before, uses=uses, after=after, parent=parent)
