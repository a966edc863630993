from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import fastinfer
from consoles import on_console
from fastinfer import Classification, ClassificationReport
from fastinfer.errors import FastInferError, ImageDecodeError, LabelError

TRUTH = ["cat", "cat", "cat", "dog", "otter", "dog"]


@pytest.fixture(scope="module")
def report(animals: list[Classification]) -> ClassificationReport:
    return fastinfer.report(animals, TRUTH, title="Animals")


def test_accuracy_is_over_the_images_that_were_classified_and_have_a_truth(
    animals: list[Classification], report: ClassificationReport
) -> None:
    assert (report.total, report.classified, report.judged) == (6, 5, 5)
    assert report.accuracy is not None
    assert (report.accuracy.count, report.accuracy.total) == (3, 5)
    partly = fastinfer.report(animals, ["cat", None, "cat", None, "otter", None])
    assert partly.accuracy is not None
    assert (partly.accuracy.count, partly.accuracy.total) == (1, 3)
    assert "Classified images without a truth, which figures about being right leave out: 2." in partly.remarks


def test_labels_have_precision_recall_and_f1(report: ClassificationReport) -> None:
    cat, dog, otter = report.labels
    assert (cat.label, cat.support, cat.given) == ("cat", 3, 2)
    assert cat.precision is not None
    assert cat.recall is not None
    assert cat.f1 is not None
    assert (cat.precision.value, cat.recall.value) == (1.0, pytest.approx(2 / 3))
    assert cat.f1.value == pytest.approx(0.8)
    assert cat.mean_confidence == pytest.approx(0.75)
    assert dog.f1 is not None
    assert dog.f1.value == pytest.approx(0.5)
    assert otter.precision is None  # it was never given
    assert otter.recall is not None
    assert otter.recall.value == 0.0
    assert report.macro_f1 == pytest.approx((0.8 + 0.5 + 0.0) / 3)
    assert report.balanced_accuracy == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_the_figures_are_those_of_scikit_learn(classified: Callable[..., Classification]) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    names, truth, results = ["a", "b", "c", "d"], [], []
    for number in range(200):
        weights = {name: 1 + 0.01 * place + (number * (place + 3) * 37 % 11) ** 2 for place, name in enumerate(names)}
        results.append(classified({name: weight / sum(weights.values()) for name, weight in weights.items()}))
        truth.append(names[number * 7 % 4] if number % 3 else results[-1].label)
    made, given = fastinfer.report(results, truth), [result.label for result in results]
    precision, recall, f1, support = metrics.precision_recall_fscore_support(truth, given, zero_division=0.0)
    for place, label in enumerate(made.labels):
        assert label.support == support[place]
        assert label.precision is not None
        assert label.recall is not None
        assert label.f1 is not None
        assert label.precision.value == pytest.approx(precision[place])
        assert label.recall.value == pytest.approx(recall[place])
        assert label.f1.value == pytest.approx(f1[place])
    assert made.macro_f1 == pytest.approx(metrics.f1_score(truth, given, average="macro"))
    assert made.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(truth, given))
    shares = [[result.probabilities[name] for name in names] for result in results]
    assert made.calibration is not None
    assert made.calibration.log_loss == pytest.approx(metrics.log_loss(truth, shares, labels=names))
    assert made.top[3].value == pytest.approx(metrics.top_k_accuracy_score(truth, shares, k=3, labels=names))
    matrix = metrics.confusion_matrix(truth, given, labels=names)
    assert {(p.truth, p.given): p.count for p in made.confusions} == {
        (a, b): matrix[i][j] for i, a in enumerate(names) for j, b in enumerate(names) if matrix[i][j]
    }


def test_confusions_come_with_the_most_frequent_first(report: ClassificationReport) -> None:
    assert [(p.truth, p.given, p.count) for p in report.confusions] == [
        ("cat", "cat", 2),
        ("dog", "dog", 1),
        ("otter", "dog", 1),
        ("cat", "dog", 1),
    ]
    assert report.confusions[-1].share == pytest.approx(1 / 3)


def test_calibration_holds_confidence_against_accuracy(report: ClassificationReport) -> None:
    counts = {(bin.low, bin.high): bin.count for bin in report.bins if bin.count}
    assert counts == {(0.4, 0.5): 1, (0.5, 0.6): 1, (0.6, 0.7): 1, (0.9, 1.0): 2}
    assert len(report.bins) == 10
    found = report.calibration
    assert found is not None
    assert found.mean_confidence == pytest.approx((0.9 + 0.6 + 0.95 + 0.55 + 0.45) / 5)
    assert found.error == pytest.approx((0.45 + 0.45 + 0.4 + abs(1.85 - 1)) / 5)
    of_truth = [0.9, 0.6, 0.04, 0.55, 0.35]
    assert found.log_loss == pytest.approx(-sum(map(math.log, of_truth)) / 5)
    assert found.brier == pytest.approx(
        (
            (0.1**2 + 0.08**2 + 0.02**2)
            + (0.4**2 + 0.3**2 + 0.1**2)
            + (0.95**2 + 0.96**2 + 0.01**2)
            + (0.45**2 + 0.25**2 + 0.2**2)
            + (0.45**2 + 0.65**2 + 0.2**2)
        )
        / 5
    )
    assert found.scored == 5


def test_scores_need_all_probabilities_and_the_truth_among_them(classified: Callable[..., Classification]) -> None:
    results = [classified({"cat": 0.5, "dog": 0.3}), classified({"cat": 0.6, "dog": 0.4}, "2.png")]
    made = fastinfer.report(results, ["cat", "bird"])
    assert made.calibration is not None
    assert (made.calibration.brier, made.calibration.scored) == (None, 0)
    assert any("was no label to choose, and which count as mistakes: 1 ('bird')" in r for r in made.remarks)
    assert any("log loss leave out" in remark for remark in made.remarks)


def test_a_certain_mistake_costs_much_but_not_without_limit(classified: Callable[..., Classification]) -> None:
    made = fastinfer.report([classified({"cat": 1.0, "dog": 0.0})], ["dog"])
    assert made.calibration is not None
    assert made.calibration.log_loss == pytest.approx(52 * math.log(2))
    assert made.calibration.brier == 2.0


def test_prediction_sets_are_judged_by_coverage_and_by_the_answers_they_leave(
    classified: Callable[..., Classification],
) -> None:
    probabilities = {"cat": 0.8, "dog": 0.2}
    made = fastinfer.report(
        [
            classified(probabilities, prediction_set=["cat"]),
            classified(probabilities, prediction_set=["cat"]),
            classified(probabilities, prediction_set=["cat", "dog"]),
            classified(probabilities, prediction_set=[]),
            classified(probabilities),
        ],
        ["cat", "dog", "dog", "dog", "cat"],
    )
    sets = made.sets
    assert sets is not None
    assert (sets.total, sets.mean_size, sets.sizes) == (4, 1.0, {0: 1, 1: 2, 2: 1})
    assert sets.coverage is not None
    assert sets.answered is not None
    assert (sets.abstained.count, sets.coverage.count) == (2, 2)
    assert (sets.answered.count, sets.answered.total) == (1, 2)
    assert "Results without a prediction set: 1." in made.remarks


def test_the_sheet_holds_the_least_certain_and_the_most_certain_mistakes(report: ClassificationReport) -> None:
    assert [image.name for image in report.least_certain] == [
        "otter/5.png",
        "dog/4.png",
        "cat/2.png",
        "cat/1.png",
        "cat/3.png",
    ]
    assert [(image.name, image.label, image.truth) for image in report.mistakes] == [
        ("cat/3.png", "dog", "cat"),
        ("otter/5.png", "dog", "otter"),
    ]
    assert [image.right for image in report.least_certain] == [False, True, True, True, False]


def test_only_the_sheets_images_are_kept_and_equal_ones_in_order(classified: Callable[..., Classification]) -> None:
    made = fastinfer.report(classified({"a": 0.9, "b": 0.1}, f"{n:03}.png") for n in range(100))
    assert [image.name for image in made.least_certain] == [f"{n:03}.png" for n in range(24)]


def test_errors_are_counted_by_kind_with_the_first_of_each(
    animals: list[Classification], classified: Callable[..., Classification]
) -> None:
    more = [classified({}, f"{n}.png", ImageDecodeError(f"Image {n} is damaged.")) for n in (7, 8)]
    made = fastinfer.report([*animals, *more])
    assert [(f.kind, f.count, f.name, f.message) for f in made.failures] == [
        ("ImageDecodeError", 2, "7.png", "Image 7 is damaged."),
        ("FastInferError", 1, "dog/6.png", "Cannot read 6.png."),
    ]


def test_without_truth_labels_and_confidences_are_counted(animals: list[Classification]) -> None:
    made = fastinfer.report(animals)
    assert (made.accuracy, made.macro_f1, made.calibration, made.confusions, made.mistakes) == (
        None,
        None,
        None,
        (),
        (),
    )
    assert [(label.label, label.given) for label in made.labels] == [("cat", 2), ("dog", 3)]
    assert sum(bin.count for bin in made.bins) == 5
    assert all(bin.accuracy is None for bin in made.bins)
    assert len(made.least_certain) == 5
    assert "their truth is not known" in str(made)


def test_results_that_all_failed_still_make_a_report(classified: Callable[..., Classification]) -> None:
    made = fastinfer.report([classified({}, error=FastInferError("No."))], ["cat"])
    assert (made.classified, made.accuracy, made.labels) == (0, None, ())
    assert "FastInferError" in made.to_html()


def test_labels_are_compared_as_label_sets_are(classified: Callable[..., Classification]) -> None:
    made = fastinfer.report(
        [classified({"café": 0.9, "red  car": 0.1}), classified({"red  car": 0.8, "café": 0.2})],
        ["cafe\u0301", "red car"],
    )
    assert made.accuracy is not None
    assert made.accuracy.value == 1.0
    assert [label.label for label in made.labels] == ["café", "red  car"]


def test_labels_are_sorted_as_people_count(classified: Callable[..., Classification]) -> None:
    made = fastinfer.report([classified({"10": 0.7, "9": 0.3}), classified({"9": 0.7, "10": 0.3})])
    assert [label.label for label in made.labels] == ["9", "10"]


def test_intervals_widen_with_the_confidence_asked_for(animals: list[Classification]) -> None:
    usual, wide = fastinfer.report(animals, TRUTH), fastinfer.report(animals, TRUTH, confidence=0.99)
    assert usual.accuracy is not None
    assert wide.accuracy is not None
    assert wide.accuracy.low < usual.accuracy.low < 0.6 < usual.accuracy.high < wide.accuracy.high
    assert "99% interval" in str(wide)
    for confidence in (0, 1, 95, float("nan")):
        with pytest.raises(FastInferError, match="not between 0 and 1"):
            fastinfer.report(animals, confidence=confidence)


def test_text_rich_html_and_json_say_the_same(report: ClassificationReport) -> None:
    for text in (str(report), on_console(report, 200), report._repr_html_()):
        said = " ".join(text.split())
        for what in ("Animals", "60.0% of 5 images are right", "precision", "cat/3.png", "Cannot read 6.png.", "otter"):
            assert what.lower() in said.lower()
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["accuracy"]["count"] == 3
    assert data["mistakes"][0]["name"] == "cat/3.png"
    assert "picture" not in data["mistakes"][0]


def test_more_or_fewer_truths_or_images_than_results_are_an_error(animals: list[Classification]) -> None:
    for truth in (TRUTH[:-1], [*TRUTH, "cat"]):
        with pytest.raises(LabelError, match=r"more results than the 5 labels|7 labels for 6 results"):
            fastinfer.report(animals, truth)
    picture = Image.new("RGB", (8, 8))
    for count in (5, 7):
        with pytest.raises(ImageDecodeError, match=r"more results than the 5 images|7 images for 6 results"):
            fastinfer.report(animals, images=[picture] * count)


@pytest.mark.parametrize(
    ("results", "options", "said"),
    [
        ([], {}, "no results to report on"),
        (7, {}, "The results are a int"),
        (["cat"], {}, "Result 0 is a str, not a Classification"),
        ([{"label": "cat"}], {}, "neither a path nor a source"),
        ([{"path": "1.png"}], {}, "has no label and no error"),
        ([{"path": "1.png", "label": "a", "confidence": 2}], {}, "confidence is 2, not a number from 0 to 1"),
        ([{"path": "1.png", "label": "a", "confidence": "x"}], {}, "confidence is 'x'"),
        ([{"path": "1.png", "label": "a", "confidence": 1, "probabilities": "{"}], {}, "probabilities is not JSON"),
        ([{"path": "1.png", "label": "a", "confidence": 1, "probabilities": 3}], {}, "no labels with numbers"),
        ([{"path": "1.png", "label": "a", "confidence": 1}], {"images": "missing"}, "There is no folder missing"),
        ([{"path": "1.png", "label": "a", "confidence": 1}], {"images": 5}, "images is a int"),
        ([{"path": "1.png", "label": "a", "confidence": 1}], {"truth": 5}, "truth is a int"),
    ],
)
def test_what_cannot_be_reported_on_is_an_error_that_says_so(results: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(FastInferError) as caught:
        fastinfer.report(results, **options)
    assert said in str(caught.value)
    assert caught.value.hint


def test_a_real_run_has_its_pictures_on_the_sheet(shared: Any, pictures: list[Image.Image], labels: list[str]) -> None:
    given = [*pictures, b"no image"]
    made = fastinfer.report(shared.classify_many(given, errors="return"), [*labels, None], images=given)
    assert (made.total, made.judged) == (7, 6)
    assert [f.kind for f in made.failures] == ["ImageDecodeError"]
    assert all((image.picture or "").startswith("data:image/jpeg;base64,") for image in made.least_certain)
    assert made.configurations[0].startswith("preset embedded, model embedded, llama.cpp")
    assert made.least_certain[0].name.endswith(": <PIL image 96x96 RGB>")


def test_files_are_shown_that_the_folder_has(classified: Callable[..., Classification], tmp_path: Path) -> None:
    (tmp_path / "in" / "cat").mkdir(parents=True)
    Image.new("RGB", (400, 200), "red").save(tmp_path / "in" / "cat" / "1.png")
    Image.new("RGB", (4, 4), "red").save(tmp_path / "secret.png")
    names = ["cat/1.png", "cat/gone.png", "../secret.png", str(tmp_path / "secret.png")]
    results = [classified({"cat": 0.9, "dog": 0.1}, name) for name in names]
    made = fastinfer.report(results, images=tmp_path / "in")
    # Nothing outside of the folder gets into a report, whatever a results file names.
    assert [image.picture is not None for image in made.least_certain] == [True, False, False, False]
    by_name = fastinfer.report(results[:2], images={"cat/1.png": tmp_path / "in" / "cat" / "1.png"})
    assert [image.picture is not None for image in by_name.least_certain] == [True, False]


def test_memory_does_not_grow_with_the_results(classified: Callable[..., Classification]) -> None:
    def peak(count: int) -> int:
        def results() -> Iterator[Classification]:
            for number in range(count):
                share = 0.5 + (number * 7919 % 1000) / 2001
                yield classified({"cat": share, "dog": 1 - share}, f"{number}.png")

        tracemalloc.start()
        fastinfer.report(results(), ("cat" if number % 3 else "dog" for number in range(count)))
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)
    assert peak(8000) - peak(2000) < 200_000
