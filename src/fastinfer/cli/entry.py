"""What the script ``fastinfer`` calls. Nothing is imported here that takes time, so that Ctrl-C is heard at once."""

from __future__ import annotations

import io
import sys

__all__ = ["INTERRUPTED", "main"]

INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main() -> None:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal's encoding lacks is shown escaped; by default it would end the program.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        from fastinfer.cli.app import app

        app(prog_name="fastinfer")
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
