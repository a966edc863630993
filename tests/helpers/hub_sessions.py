"""The connections that huggingface_hub keeps."""

from __future__ import annotations

__all__ = ["close_sessions"]


def close_sessions() -> None:
    """Have the next request make a new one."""
    import huggingface_hub

    # Its name differs between the versions of huggingface_hub.
    close = getattr(huggingface_hub, "close_session", None)
    if close is None:
        from huggingface_hub.utils import reset_sessions as close
    close()
