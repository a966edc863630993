"""Where the weights of a GGUF model go, held to llama.cpp's rule."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastinfer.errors import ModelLoadError
from fastinfer.models import GgufHeader
from fastinfer.planning.weights import GgufSizes, Split, split_weights
from header_only import HEADS, HIDDEN, INNER, VOCABULARY, header_of

EMBEDDING = 2 * HIDDEN * VOCABULARY


def split(header: GgufHeader, n_gpu_layers: int) -> Split:
    return split_weights([header], GgufSizes.read([header]), n_gpu_layers)


def by_llama_cpp(header: GgufHeader, layers: int, n_gpu_layers: int) -> tuple[int, int]:
    """Bytes on the GPU and on the CPU by llama_model::load_tensors.

    Layer i is on the GPU from ``max(layers + 1 - n_gpu_layers, 0)`` on, the output is layer ``layers``, the input is
    on the CPU; an output that the file has not is the input's matrix, loaded once more.
    """
    first = max(layers + 1 - (layers + 1 if n_gpu_layers < 0 else n_gpu_layers), 0)
    sides = [0, 0]
    names = {tensor.name: tensor.size or 0 for tensor in header.tensors}
    names.setdefault("output.weight", names["token_embd.weight"] if first <= layers else 0)
    for name, size in names.items():
        layer = -1 if name.startswith("token_embd") else int(name.split(".")[1]) if name.startswith("blk.") else layers
        sides[layer < first] += size
    return sides[0], sides[1]


@given(layers=st.integers(1, 12), tied=st.booleans(), n_gpu_layers=st.integers(-1, 20))
def test_layers_go_to_the_gpu_as_llama_cpp_puts_them(layers: int, tied: bool, n_gpu_layers: int) -> None:
    header = header_of(layers, tied=tied)
    found = split(header, n_gpu_layers)
    assert (found.gpu, found.host) == by_llama_cpp(header, layers, n_gpu_layers)
    wanted = layers + 1 if n_gpu_layers < 0 else min(n_gpu_layers, layers + 1)
    assert found.gpu_layers == max(0, wanted - 1)


@given(layers=st.integers(1, 12), tied=st.booleans())
def test_more_layers_on_the_gpu_leave_less_to_the_cpu_and_nothing_is_lost(layers: int, tied: bool) -> None:
    header = header_of(layers, tied=tied)
    weights = sum(tensor.size or 0 for tensor in header.tensors)
    splits = [split(header, count) for count in range(layers + 2)]
    sizes = [found.gpu for found in splits]
    assert sizes == sorted(set(sizes))
    assert (splits[0].gpu, splits[0].host) == (0, weights)
    # A tied output is on the GPU and, as the input, on the CPU.
    assert {found.gpu + found.host for found in splits[1:]} == {weights + (EMBEDDING if tied else 0)}
    assert splits[-1].host == EMBEDDING
    assert splits[-1] == split(header, -1) == split(header, 10**6)


def test_the_gpu_gets_copies_of_what_stays_on_the_cpu_as_long_as_anything_does() -> None:
    header = header_of(4)
    assert [split(header, count).largest_left for count in (0, 1, 4, 5)] == [0, 32768, 32768, 0]


def test_parts_of_a_split_model_count_together() -> None:
    whole = header_of(4)
    parts = [dataclasses.replace(whole, tensors=whole.tensors[at : at + 10]) for at in range(0, len(whole.tensors), 10)]
    assert len(parts) == 4
    assert GgufSizes.read(parts) == GgufSizes.read([whole])
    assert split_weights(parts, GgufSizes.read(parts), 3) == split(whole, 3)


def test_sizes_are_read_off_the_header() -> None:
    sizes = GgufSizes.read([header_of(3)])
    assert (sizes.architecture, sizes.layers, sizes.hidden, sizes.heads) == ("llama", 3, HIDDEN, HEADS)
    assert (sizes.vocabulary, sizes.widest, sizes.quantised) == (VOCABULARY, HIDDEN, False)
    layer = 2 * HIDDEN * HIDDEN + HIDDEN * HIDDEN + 3 * HIDDEN * INNER + 2 * HIDDEN
    assert sizes.parameters == 2 * HIDDEN * VOCABULARY + HIDDEN + 3 * layer


@pytest.mark.parametrize(("key", "value"), [("block_count", 0), ("embedding_length", "wide"), ("block_count", None)])
def test_a_header_without_what_is_needed_is_refused(key: str, value: int | str | None) -> None:
    header = header_of(2)
    metadata = {name: known for name, known in header.metadata.items() if name != f"llama.{key}"}
    if value is not None:
        metadata[f"llama.{key}"] = value
    with pytest.raises(ModelLoadError, match=f"model.gguf: its header has no usable llama.{key}") as caught:
        GgufSizes.read([dataclasses.replace(header, metadata=metadata)])
    assert caught.value.hint
