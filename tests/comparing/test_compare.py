from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import fastinfer
from consoles import on_console
from fastinfer.comparing import Comparison, compare
from fastinfer.comparing import sides as sides_module
from fastinfer.comparing.collection import collect
from fastinfer.errors import (
    EngineDeadError,
    EngineOutOfMemoryError,
    ImageDecodeError,
    LabelError,
    PresetError,
)

PLAIN = {"workers": 1, "n_threads": 1}
#: Asked so, the model takes many pictures for something else.
ODD = "0123456789 " * 6


def small(**changes: Any) -> fastinfer.Preset:
    return fastinfer.preset("embedded", kind="classify").replace(**PLAIN, **changes)


@pytest.fixture(autouse=True)
def account(bare_account: Path) -> Path:
    return bare_account


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, draw: Callable[..., Image.Image]) -> Path:
    """Twelve pictures of four labels, one damaged file, and one picture of an unknown label."""
    root = tmp_path_factory.mktemp("labelled")
    for shape, colour in (("circle", "red"), ("square", "blue"), ("triangle", "green"), ("line", "black")):
        where = root / f"{colour} {shape}"
        where.mkdir()
        for number, background in enumerate(("white", "yellow", "lightgrey")):
            draw(shape, colour, background).save(where / f"{number}.png")
    (root / "red circle" / "damaged.png").write_bytes(b"no image")
    draw("circle", "orange").save(root / "unknown.png")
    return root


@pytest.fixture(scope="module")
def plain(labels: list[str]) -> Iterator[Any]:
    """An open classifier of one thread, which no test closes."""
    with fastinfer.classifier(small(), labels=labels, model="embedded") as opened:
        yield opened


@pytest.fixture(scope="module")
def comparison(folder: Path) -> Comparison:
    return compare(small(), small(prompt=ODD, type_k="f16"), folder, model="embedded")


def test_each_side_has_its_own_answers(comparison: Comparison, folder: Path) -> None:
    with fastinfer.classifier(small(), labels=comparison.labels) as a:
        expected = a.classify(folder / "blue square" / "1.png")
    (image,) = [image for image in comparison.images if image.name == "blue square/1.png"]
    assert image.truth == "blue square"
    assert image.a.label == expected.label
    assert image.a.confidence == pytest.approx(expected.confidence, abs=1e-3)
    assert image.a.label_mass == pytest.approx(expected.label_mass, abs=1e-3)
    assert image.b.confidence != image.a.confidence
    assert (comparison.a.name, comparison.b.name) == (
        "embedded (n_threads 1, workers 1)",
        "embedded (n_threads 1, type_k f16, workers 1, prompt)",
    )
    assert comparison.a.provenance.fingerprint == small().fingerprint


def test_figures_are_counted_over_the_images_that_both_classified(comparison: Comparison) -> None:
    good = [image for image in comparison.images if image.ok]
    judged = [image for image in good if image.truth]
    assert (len(comparison.images), len(good), len(judged)) == (14, 13, 12)
    for side, answers in ((comparison.a, [i.a for i in judged]), (comparison.b, [i.b for i in judged])):
        assert side.accuracy is not None
        assert side.accuracy.count == sum(x.label == i.truth for x, i in zip(answers, judged, strict=True))
        assert side.accuracy.total == 12
        assert side.failed == 1
        assert side.images_per_second > 0
        assert 0 < side.mean_label_mass < 1
    difference = comparison.accuracy_difference
    assert difference is not None
    assert difference.value == pytest.approx(comparison.b.accuracy.value - comparison.a.accuracy.value)  # type: ignore[union-attr]
    assert comparison.agreement.count == sum(image.a.label == image.b.label for image in good)
    assert comparison.agreement.total == 13
    assert comparison.kappa is not None


def test_disagreements_come_with_the_largest_difference_first(comparison: Comparison) -> None:
    found = comparison.disagreements
    assert found
    assert all(image.ok and image.a.label != image.b.label for image in found)
    assert [image.difference for image in found] == sorted((image.difference for image in found), reverse=True)
    assert len(found) + comparison.agreement.count == 13


def test_a_damaged_image_is_listed_and_left_out(comparison: Comparison) -> None:
    (failed,) = comparison.failures
    assert failed.name == "red circle/damaged.png"
    assert (failed.a.error or "").startswith("ImageDecodeError: Cannot read damaged.png")
    assert (failed.a.label, failed.difference) == (None, 0.0)


def test_memory_is_seen_where_the_system_tells(comparison: Comparison) -> None:
    if Path("/proc/self/statm").exists():
        assert comparison.a.memory
        assert comparison.b.memory is not None
    assert comparison.a.gpu_memory is None


def test_text_html_rich_and_json_say_the_same(comparison: Comparison) -> None:
    html = comparison._repr_html_()
    for text in (str(comparison), on_console(comparison, 200), html):
        for said in ("14 images, 4 labels", "images a second", "Cohen", "red circle/damaged.png", "label is not known"):
            assert said in " ".join(text.split())
    assert "<img src=" in html
    data = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert data["agreement"]["total"] == 13
    assert len(data["images"]) == 14


def test_the_sheet_shows_the_disagreements(comparison: Comparison) -> None:
    one, all_of_them = comparison.contact_sheet(1), comparison.contact_sheet()
    assert one.mode == "RGB"
    assert one.width == all_of_them.width
    rows = -(-len(comparison.disagreements) // 4)
    assert all_of_them.height == rows * one.height
    # The picture's own colours are on it, not only black text on white.
    assert len(one.getcolors(1 << 20) or ()) > 20
    with pytest.raises(ValueError, match="at least 1, not 0"):
        comparison.contact_sheet(0)


def test_two_equal_presets_agree_and_it_is_said(plain: Any, pictures: list[Image.Image]) -> None:
    found = compare(plain, plain, pictures)
    assert found.labels == plain.labels
    assert found.agreement.value == 1.0
    assert found.kappa == 1.0
    assert found.accuracy_difference is None
    assert found.disagreements == ()
    assert max(image.difference for image in found.images) < 1e-3
    assert found.remarks == ("Both ran the same model with the same values: what differs is chance.",)
    assert found.contact_sheet().height < 100
    assert "<img" not in found._repr_html_()
    # It was given open, and stays so.
    assert plain.classify(pictures[0]).ok


def test_images_in_memory_keep_small_copies_for_the_sheet(
    plain: Any, fresh: Any, pictures: list[Image.Image], labels: list[str]
) -> None:
    odd = fresh(labels=labels, prompt=ODD, **PLAIN)
    large = [picture.resize((600, 300)) for picture in pictures]
    found = compare(plain, odd, (picture for picture in large), truth=labels)
    assert found.disagreements
    assert {picture.size for picture in found._thumbnails.values()} == {(192, 96)}
    assert set(found._thumbnails) == {image.name for image in found.disagreements}
    assert len(found.contact_sheet().getcolors(1 << 20) or ()) > 20


def test_a_file_that_is_gone_leaves_its_place_empty(
    plain: Any, fresh: Any, pictures: list[Image.Image], tmp_path: Path, labels: list[str]
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path)
    found = compare(plain, fresh(labels=labels, prompt=ODD, **PLAIN), paths)
    before = found.contact_sheet()
    for path in paths:
        path.unlink()
    after = found.contact_sheet()
    assert after.size == before.size
    assert after.tobytes() != before.tobytes()


def test_without_labels_the_names_are_compared(shared_open: Any, samples: list[Path]) -> None:
    found = compare(shared_open, shared_open, samples)
    assert found.labels is None
    assert found.agreement.count == len(samples)
    assert all(image.a.label for image in found.images)


@pytest.fixture
def samples() -> list[Path]:
    return sorted((Path(fastinfer.__file__).parent / "samples").glob("*.png"))[:4]


def test_images_are_taken_a_turn_at_a_time(plain: Any, pictures: list[Image.Image], monkeypatch: Any) -> None:
    monkeypatch.setattr(sides_module, "_IN_MEMORY", 4)
    taken: list[int] = []

    def images() -> Iterator[Image.Image]:
        for number in range(10):
            taken.append(number)
            yield pictures[number % len(pictures)]

    turns = []
    for turn in sides_module.turns(
        *(sides_module.Contestant(plain, None, False) for _ in range(2)),
        collect(images(), plain.labels),
        None,
    ):
        turns.append((len(turn.items), len(taken)))
    # Eight warm up and are compared like all others.
    assert turns == [(4, 8), (4, 8), (2, 10)]


def test_one_after_the_other_gives_the_same_answers(folder: Path, comparison: Comparison) -> None:
    found = compare(small(), small(prompt=ODD, type_k="f16"), folder, at_once=False)
    assert not found.at_once
    assert found.speed.turns == 1
    assert any("one after the other" in remark for remark in found.remarks)
    assert [(i.a.label, i.b.label) for i in found.images] == [(i.a.label, i.b.label) for i in comparison.images]
    # Kept as numbers in between, so the differences are those of running together.
    for one, other in zip(found.images, comparison.images, strict=True):
        assert one.difference == pytest.approx(other.difference, abs=1e-3)


class TestMemoryForOneOnly:
    """The second model does not fit while the first is open."""

    @pytest.fixture(autouse=True)
    def tight(self, monkeypatch: Any) -> None:
        real, opened = sides_module.classifier, []

        def open_one(*args: Any, **options: Any) -> Any:
            if any(not classifier._closed for classifier in opened):
                raise EngineOutOfMemoryError("No memory.", hint="Close something.")
            opened.append(real(*args, **options))
            return opened[-1]

        monkeypatch.setattr(sides_module, "classifier", open_one)

    def test_it_goes_on_one_by_one(self, pictures: list[Image.Image], labels: list[str]) -> None:
        found = compare(small(), small(type_k="f16"), pictures, labels=labels)
        assert not found.at_once
        assert found.agreement.total == len(pictures)

    def test_images_that_come_once_make_it_an_error(self, pictures: list[Image.Image], labels: list[str]) -> None:
        with pytest.raises(EngineOutOfMemoryError, match="No memory"):
            compare(small(), small(type_k="f16"), iter(pictures), labels=labels)

    def test_so_does_at_once(self, pictures: list[Image.Image], labels: list[str]) -> None:
        with pytest.raises(EngineOutOfMemoryError, match="No memory"):
            compare(small(), small(type_k="f16"), pictures, labels=labels, at_once=True)


def test_bad_input_is_refused_before_a_model_is_loaded(plain: Any, shared_open: Any, tmp_path: Path) -> None:
    with pytest.raises(PresetError, match="There is no preset 'prud'"):
        compare("prud", "embedded", ["x.png"])
    with pytest.raises(PresetError, match="of kind 'chat' are not compared"):
        compare("balanced", "prod", ["x.png"], kind="chat")  # type: ignore[arg-type]
    with pytest.raises(PresetError, match="these come once"):
        compare("embedded", "embedded", iter(["x.png"]), at_once=False)
    with pytest.raises(ImageDecodeError, match="no images in the folder"):
        compare("embedded", "embedded", tmp_path)
    with pytest.raises(ImageDecodeError, match="There are no images to compare on"):
        compare("embedded", "embedded", [])
    with pytest.raises(PresetError, match="of kind 'chat', not 'classify'"):
        compare(fastinfer.preset("balanced"), "embedded", ["x.png"])


def test_open_classifiers_with_different_labels_need_to_be_given_some(
    plain: Any, fresh: Any, pictures: list[Image.Image]
) -> None:
    other = fresh(labels=["yes", "no"], **PLAIN)
    with pytest.raises(LabelError, match="different labels"):
        compare(plain, other, pictures)
    found = compare(plain, other, pictures[:2], labels=["circle", "square"])
    assert found.labels == ("circle", "square")
    assert other.labels == ("yes", "no")


def test_images_none_of_which_can_be_read_are_an_error(plain: Any) -> None:
    with pytest.raises(ImageDecodeError, match=r"None of the 2 images.*missing\.png"):
        compare(plain, plain, ["missing.png", b"nothing"])


def test_a_closed_classifier_is_an_error(fresh: Any, pictures: list[Image.Image], labels: list[str]) -> None:
    closed = fresh(labels=labels, **PLAIN)
    closed.close()
    with pytest.raises(EngineDeadError, match="closed"):
        compare(closed, closed, pictures)
