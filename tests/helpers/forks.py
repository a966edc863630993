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
child = os.fork()
if child == 0:
    faulthandler.dump_traceback_later(20, exit=True)
    code = 3
    try:
        {use}
    except fastinfer.errors.EngineDeadError as error:
        code = 0 if "fork" in str(error) and error.hint else 4
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        code = 5
    {after}
    os._exit(code)
_, status = os.waitpid(child, 0)
{parent}  # the parent goes on
sys.exit(os.waitstatus_to_exitcode(status))
"""


def fork_script(*, before: str, use: str, after: str, parent: str) -> str:
    """A program whose exit code is 0 where ``use`` is refused in the child with an EngineDeadError that says why.

    Args:
        before: what happens before the fork.
        use, after: what the child does.
        parent: what the parent does then, and has to succeed in.
    """
    return _SCRIPT.format(before=before, use=use, after=after, parent=parent)
