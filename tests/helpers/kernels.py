"""Cells in a real kernel, as a notebook runs them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

__all__ = ["UNDER_WAY", "Kernel"]

#: What a cell prints when it is to be interrupted.
UNDER_WAY = "under way"
#: Seconds without a word from the kernel; no test comes near unless something hangs.
_PATIENCE = 60
_OUTPUTS = ("stream", "display_data", "execute_result", "error")


class Kernel:
    """A kernel that was started, with its manager and its blocking client."""

    def __init__(self, manager: Any, client: Any) -> None:
        self._manager, self._client = manager, client

    def run(self, code: str) -> list[dict[str, Any]]:
        """The contents of a cell's outputs, a dict with its type under ``"type"`` each; a cell must not fail."""
        outputs = list(self._outputs(self._client.execute(code)))
        failed = [output for output in outputs if output["type"] == "error"]
        assert not failed, "\n".join(failed[0]["traceback"])
        return outputs

    def interrupt(self, code: str) -> tuple[str, float]:
        """Press Ctrl-C half a second after a cell has said that it is under way.

        Returns:
            the name of the error that ended the cell, "" if there was none, and the seconds from then to its end.
        """
        name, pressed = "", 0.0
        for output in self._outputs(self._client.execute(code)):
            if not pressed and UNDER_WAY in output.get("text", ""):
                time.sleep(0.5)
                self._manager.interrupt_kernel()
                pressed = time.monotonic()
            name = output.get("ename", name)
        assert pressed, "the cell ended before it was under way"
        return name, time.monotonic() - pressed

    def _outputs(self, number: str) -> Iterator[dict[str, Any]]:
        while True:
            message = self._client.get_iopub_msg(timeout=_PATIENCE)
            if message["parent_header"].get("msg_id") != number:
                continue
            if message["content"].get("execution_state") == "idle":
                return
            if message["msg_type"] in _OUTPUTS:
                yield {"type": message["msg_type"], **message["content"]}
