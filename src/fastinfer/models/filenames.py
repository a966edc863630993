"""What the names of GGUF files say: parts of a split model, quantisation, projector; and which file to take.

Names are paths with ``/`` between the parts, relative to a folder or repository.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import takewhile
from typing import Final

__all__ = ["choose_model", "choose_projector", "is_gguf", "is_projector", "models", "parts", "quantisation"]

_PART: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE | re.ASCII)
_QUANTISATION: Final = re.compile(
    r"(?<![A-Z0-9])((?:UD-)?(?:I?Q[1-8]|TQ[12]|MXFP[468]|NVFP4|BF16|F16|F32|FP16|FP32)[A-Z0-9_]*)$",
    re.IGNORECASE | re.ASCII,
)
_MODEL_PREFERENCE: Final = ("Q4_K_M", "Q8_0")
_PROJECTOR_PREFERENCE: Final = ("F16", "BF16", "Q8_0", "F32")
# Files beside a model that are none: statistics for quantising it, and drafts for speculative decoding.
_COMPANIONS: Final = ("imatrix", "mtp-", "eagle3-", "dflash-", "dspark-")


def is_gguf(path: str) -> bool:
    """Whether the name ends in ``.gguf``."""
    return path.lower().endswith(".gguf")


def is_projector(path: str) -> bool:
    """Whether the file is a projector by its name."""
    return is_gguf(path) and "mmproj" in _file_name(path).lower()


def parts(path: str) -> tuple[str, ...]:
    """The names of all parts of the model that this file belongs to, in order; the file itself if it is not split."""
    match = _PART.fullmatch(path)
    if match is None or not 1 <= int(match[2]) <= int(match[3]):
        return (path,)
    suffix = path[-5:]
    return tuple(f"{match[1]}-{number:05d}-of-{match[3]}{suffix}" for number in range(1, int(match[3]) + 1))


def models(paths: Iterable[str]) -> list[str]:
    """The models among the files, sorted; a split model once, by the name of its first part."""
    return sorted({parts(path)[0] for path in paths if _is_model(path)})


def quantisation(path: str) -> str | None:
    """The quantisation that the file's name ends with, in capitals, for example ``"Q4_K_M"`` or ``"UD-Q5_K_XL"``."""
    match = _QUANTISATION.search(_file_name(_stem(path)))
    return match[1].upper() if match else None


def choose_model(paths: Iterable[str], wanted: str | None) -> str | None:
    """The model to take, or None where there is none.

    Without a wanted quantisation that is Q4_K_M, else Q8_0, else the first by name. A wanted one is compared without
    regard to case with the end of the file's name, then with the words in it, then with those of its folders; the
    first by name is taken where several files have it.
    """
    found = models(paths)
    for name in _MODEL_PREFERENCE if wanted is None else (wanted,):
        # Q4_K is not in Q4_K_M, nor F16 in BF16; but Q5_K_XL is in UD-Q5_K_XL.
        word = re.compile(rf"(?<![A-Z0-9]){re.escape(name)}(?![A-Z0-9_])", re.IGNORECASE | re.ASCII)
        ranked = [
            *(path for path in found if quantisation(path) == name.upper()),
            *(path for path in found if word.search(_file_name(_stem(path)))),
            *(path for path in found if word.search(_stem(path))),
        ]
        if ranked:
            return ranked[0]
    return found[0] if found and wanted is None else None


def choose_projector(model: str, paths: Iterable[str]) -> str | None:
    """The projector to take for a model, or None where there is none.

    It lies in the model's folder or one above it. The nearer folder goes first; then the name that has the longest
    beginning in common with the model's (quantisation and ``mmproj`` left out of both); then F16, BF16, Q8_0, F32 and
    others, in this order; then the first by name.
    """
    folder = model.split("/")[:-1]
    base = _bare(model)

    def rank(path: str) -> tuple[int, int, int, int, str]:
        bare = _bare(path)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(base, bare, strict=False)))
        rest = len(bare) - common if common else 0
        precision = quantisation(path) or ""
        order = _PROJECTOR_PREFERENCE.index(precision) if precision in _PROJECTOR_PREFERENCE else 99
        return -path.count("/"), -common, rest, order, path

    near = (path for path in paths if is_projector(path) and folder[: path.count("/")] == path.split("/")[:-1])
    return min((path for path in near if path != model), key=rank, default=None)


def _is_model(path: str) -> bool:
    name = _file_name(path)
    return is_gguf(path) and not is_projector(path) and not any(word in name for word in _COMPANIONS)


def _file_name(path: str) -> str:
    return path.rpartition("/")[2]


def _stem(path: str) -> str:
    """The path without ``.gguf`` and the number of the part."""
    match = _PART.fullmatch(path)
    if match:
        return match[1]
    return path[:-5] if is_gguf(path) else path


def _bare(path: str) -> str:
    """The file's name in small letters without quantisation and ``mmproj``."""
    name = _QUANTISATION.sub("", _file_name(_stem(path))).lower()
    return "-".join(word for word in re.split(r"[-_. ]+", name.replace("mmproj", "-")) if word)
