"""Everything that decides a result, and sixteen digits that stand for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastinfer._version import __version__
from fastinfer.fingerprint import fingerprint

if TYPE_CHECKING:
    from fastinfer.preset_library import Preset
    from fastinfer.provenance import Provenance

__all__ = ["Configuration", "configuration", "differences"]

#: Raised when rows get other columns or another meaning, so that rows of two forms never meet.
_FORMAT: Final = 1
_SHOWN: Final = 60
#: Of each file of a model, so many pieces of so many bytes are hashed: another training changes all of its weights.
_PIECES, _PIECE = 64, 16 * 1024


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that decides a result.

    Attributes:
        content: it, as plain values that JSON can hold.
        key: 16 hexadecimal digits, the first of SHA-256 over canonical JSON of the content.
    """

    content: Mapping[str, Any]
    key: str

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Configuration:
        """The configuration with this content."""
        return cls(content, fingerprint(content))


def configuration(kind: str, preset: Preset, provenance: Provenance, **more: Any) -> Configuration:
    """The configuration of an engine that runs.

    The name of the preset and the kernel path are not in it: they do not decide a result. Of a model that is named by
    its path, the sizes of its files and a sample of their bytes are in it, as the files at a path may be replaced.

    Args:
        kind: of the job.
        preset: what was asked for.
        provenance: what runs.
        **more: what else decides a result: labels, options; plain values that JSON can hold.
    """
    return Configuration.of(
        {
            "format": _FORMAT,
            "kind": kind,
            "fastinfer": __version__,
            "engine": provenance.engine,
            "device": provenance.device,
            "model": provenance.model,
            "files": _files(Path(provenance.model)),
            "fingerprint": provenance.fingerprint,
            "preset": preset.parameters.model_dump(mode="json"),
            "calibration": provenance.calibration,
            "adjustments": {item.field: [repr(item.asked), repr(item.used)] for item in provenance.adjustments},
            **more,
        }
    )


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between two configurations' contents, a phrase for each: ``preset.n_ctx: 512 there, 1024 here``."""
    found = []
    for name in dict.fromkeys(chain(there, here)):
        one, other = there.get(name), here.get(name)
        if one == other:
            continue
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += [f"{name}.{inner}" for inner in differences(one, other)]
        else:
            found.append(f"{name}: {_short(one)} there, {_short(other)} here")
    # The fingerprint says that a parameter differs, the parameter says which.
    return [text for text in found if len(found) == 1 or not text.startswith("fingerprint:")]


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _files(model: Path) -> dict[str, str] | None:
    """The files of a model that is named by its absolute path, each with what stands for its bytes; else None."""
    if not model.is_absolute() or not model.exists():
        return None
    if model.is_dir():
        files = sorted(file for file in model.iterdir() if file.is_file())
    else:
        from fastinfer.models.filenames import parts
        from fastinfer.models.local import model_at

        found = model_at(model)
        files = [model.parent / name for name in parts(model.name)]
        files += [] if found.projector is None else [found.projector]
    return {file.name: _sample(file) for file in files}


def _sample(file: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    size = file.stat().st_size
    with file.open("rb") as stream:
        for start in sorted({piece * max(0, size - _PIECE) // (_PIECES - 1) for piece in range(_PIECES)}):
            stream.seek(start)
            digest.update(stream.read(_PIECE))
    return f"{size} bytes, {digest.hexdigest()}"
