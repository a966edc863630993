"""Which number format each tensor of a model gets when llama.cpp quantises it to a label such as ``Q5_K_M``.

A label names a mix of formats. The rules are those of ``llama_tensor_get_type_impl`` in llama.cpp's
``src/llama-quant.cpp``, for models whose experts are none and whose queries share each key's head among 4 or more, with
an importance matrix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["known_mix", "tensor_type"]

#: The format of most tensors, by label.
_BASE: Final[Mapping[str, str]] = {
    "Q2_K": "Q2_K",
    "Q3_K_M": "Q3_K",
    "Q4_K_S": "Q4_K",
    "Q4_K_M": "Q4_K",
    "Q5_K_S": "Q5_K",
    "Q5_K_M": "Q5_K",
    "Q6_K": "Q6_K",
    "Q8_0": "Q8_0",
    "IQ4_XS": "IQ4_XS",
    "F16": "F16",
    "BF16": "BF16",
}
_UNQUANTISED: Final = ("F16", "BF16")
# Unsloth's dynamic quantisation; the numbers that have a mix of about its length.
_DYNAMIC: Final = re.compile(r"(?:UD-)?(Q[345]_K)_XL")


def known_mix(label: str) -> str | None:
    """The mix of a label in capitals or small letters, or None where none is known for it.

    Unsloth's ``UD-Q5_K_XL``, also without ``UD-``, is taken as ``Q5_K_M``, and likewise with 3 and 4: it chooses the
    formats for each model anew, so that only the file says which they are.
    """
    label = label.upper()
    if match := _DYNAMIC.fullmatch(label):
        return f"{match[1]}_M"
    return label if label in _BASE else None


def tensor_type(mix: str, kind: str, layer: int, layers: int) -> str:
    """The format of a tensor of two dimensions; those of one, such as norms, stay F32.

    Args:
        mix: as :func:`known_mix` gives it.
        kind: its name between the layer's number and ``.weight``, for example ``"ffn_down"`` or ``"output"``.
        layer: number of its layer, from 0; of no meaning for tensors that are in none.
        layers: how many there are.
    """
    base = _BASE[mix]
    if base in _UNQUANTISED:
        return base
    if kind == "output":
        return "Q8_0" if base == "Q8_0" else "Q6_K"
    eighth = layers // 8
    match mix, kind:
        case "Q2_K", "attn_v":
            return "Q4_K"
        case "Q2_K", "ffn_down" | "attn_output":
            return "Q3_K"
        case "Q3_K_M", "attn_v":
            return "Q5_K" if layer < 2 else "Q4_K"
        case "Q3_K_M", "ffn_down":
            return "Q5_K" if layer < layers // 16 else "Q4_K"
        case "Q3_K_M", "attn_output":
            return "Q4_K"
        case "Q4_K_S", "attn_v":
            return "Q5_K" if layer < 4 else base
        case "Q4_K_S", "ffn_down":
            return "Q5_K" if layer < eighth else base
        case "Q4_K_M" | "Q5_K_M", "attn_v" | "ffn_down":
            better = layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
            return "Q6_K" if better else base
        case "IQ4_XS", "attn_v":
            return "Q5_K"
    return base
