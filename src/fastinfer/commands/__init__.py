"""Commands in and out: a line for ``llama-server`` or ``lmdeploy serve api_server`` to a preset, and back.

``from_command`` reads a line as the shell and the server would, without running either. What each flag becomes is
data: ``llama_server.toml`` and ``lmdeploy.toml`` have every flag of the two servers, with the field that it fills or
the reason why it fills none.
"""

from __future__ import annotations

from fastinfer.commands.command import Command, Remark
from fastinfer.commands.conversion import from_command

__all__ = ["Command", "Remark", "from_command"]
