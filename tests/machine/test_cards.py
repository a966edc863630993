"""GPUs by name: however they are spelled, never guessed, and with figures that can be right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastinfer.errors import PresetError
from fastinfer.machine.cards import Card, cards, find_card

GIB = 2**30
NAMES = [card.name for card in cards()]


def refusal(name: str) -> PresetError:
    with pytest.raises(PresetError) as caught:
        find_card(name)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("card", cards(), ids=NAMES)
def test_each_card_is_found_by_its_name_and_by_what_the_driver_calls_it(card: Card) -> None:
    for name in (card.name, *card.driver):
        for spelled in (name, name.lower(), f"NVIDIA {name}", f" {name.replace('-', ' ')} ", name.replace(" ", "")):
            assert find_card(spelled) is card, spelled


@pytest.mark.parametrize("card", cards(), ids=NAMES)
def test_the_figures_of_each_card_are_plausible_and_have_a_source(card: Card) -> None:
    assert card.bandwidth is not None
    assert card.flops is not None
    assert card.capability is not None
    assert 14 * GIB < card.memory < 256 * GIB
    assert 2e11 < card.bandwidth < 1e13
    assert 5e13 < card.flops < 5e15
    assert (7, 0) <= card.capability < (13, 0)
    assert card.memory * 0.98 < card.usable < card.memory
    assert "NVIDIA" in card.source
    assert any(character.isdigit() for character in card.source)  # a year


def test_no_two_cards_share_a_name() -> None:
    names = [name for card in cards() for name in {card.name, *card.driver}]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("a100 40g", "A100-40GB"),
        ("A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("4090", "RTX-4090"),
        ("Tesla T4", "T4"),
        ("h200", "H200"),
        ("A10", "A10"),  # and not A100
        ("L4", "L4"),  # and not L40S
    ],
)
def test_the_usual_spellings_are_understood(spelled: str, name: str) -> None:
    assert find_card(spelled).name == name


@pytest.mark.parametrize(
    ("asked", "size"), [("24GiB", 24 * GIB), (" 24 gib ", 24 * GIB), ("80GB", 80e9), ("7.5GiB", 7.5 * GIB)]
)
def test_a_size_is_a_card_of_which_nothing_else_is_known(asked: str, size: float) -> None:
    card = find_card(asked)
    assert card == Card(asked.strip(), (), int(size), None, None, None, "as given")


@pytest.mark.parametrize("name", ["0GiB", "0 GB", "0.0000000001GiB"])
def test_a_card_without_memory_is_refused(name: str) -> None:
    assert f"A card without memory: {name!r}" in refusal(name).message


@pytest.mark.parametrize(
    ("name", "several"), [("A100", ["A100-40GB", "A100-80GB"]), ("h100", ["H100-80GB", "H100-PCIe"])]
)
def test_a_name_that_fits_several_cards_is_not_guessed(name: str, several: list[str]) -> None:
    assert refusal(name).message == f"Several cards are called {name!r}: {', '.join(several)}."


@pytest.mark.parametrize("name", ["RTX-9090", "K80", "-1GiB", "24", "24GiBs", "", "  ", "NVIDIA", "9" * 400 + "GiB"])
def test_an_unknown_card_is_refused_with_what_is_known(name: str) -> None:
    error = refusal(name)
    assert repr(name) in error.message
    if "Several" not in error.message:
        assert error.hint is not None
        assert all(known in error.hint for known in NAMES)
        assert "gpu='24GiB'" in error.hint


def test_a_misspelt_card_is_refused_with_the_nearest() -> None:
    assert "Did you mean RTX-4090" in str(refusal("RTX-4091").hint)


@given(st.text() | st.from_regex(r"[0-9.]*\s*Gi?B", fullmatch=True))
def test_whatever_is_asked_for_gives_a_card_or_a_refusal(name: str) -> None:
    try:
        card = find_card(name)
    except PresetError:
        return
    assert 0 < card.usable <= card.memory
