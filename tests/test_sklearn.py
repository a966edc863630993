"""``fastinfer.sklearn.ImageClassifier``: what scikit-learn's own tools do with a classifier works with images."""

from __future__ import annotations

import gc
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fastinfer.errors import FastInferError, ImageDecodeError, LabelError, ModelNotFoundError, PresetError

sklearn = pytest.importorskip("sklearn", reason="the extra 'sklearn' is not installed")

from sklearn import config_context  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.calibration import CalibratedClassifierCV  # noqa: E402
from sklearn.ensemble import VotingClassifier  # noqa: E402
from sklearn.exceptions import NotFittedError, SkipTestWarning  # noqa: E402
from sklearn.metrics import accuracy_score, classification_report, log_loss  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

from fastinfer.sklearn import ImageClassifier  # noqa: E402

CLASSES = ["blue circle", "blue square", "red circle", "red square"]
ONE_WORKER = {"workers": 1, "n_threads": 1}

pytestmark = pytest.mark.usefixtures("bare_account")


@pytest.fixture(scope="module")
def drawn(draw):
    return [draw(shape, colour, size=size) for size in (80, 96, 112) for colour, shape in map(str.split, CLASSES)]


@pytest.fixture(scope="module")
def y():
    return CLASSES * 3


@pytest.fixture(scope="module")
def loaded() -> Iterator[ImageClassifier]:
    """An estimator whose clones find its model loaded."""
    with ImageClassifier(changes=ONE_WORKER) as estimator:
        yield estimator


@pytest.fixture
def estimator(loaded) -> ImageClassifier:
    """A clone of its own for each test, without fit."""
    return clone(loaded)


def engines() -> set[threading.Thread]:
    """A thread of each loaded model."""
    return {thread for thread in threading.enumerate() if thread.name == "fastinfer-llama-0"}


def test_classes_are_learned_from_y_in_ascending_order(estimator, drawn, y):
    assert estimator.fit(drawn, y) is estimator
    assert estimator.classes_.tolist() == CLASSES
    assert estimator.predict(drawn).tolist() == y
    assert estimator.score(drawn, y) == 1


def test_fit_loads_no_model(drawn, y):
    before = engines()
    ImageClassifier().fit(drawn, y)
    assert engines() == before


def test_with_labels_no_y_is_needed(estimator, drawn):
    estimator.set_params(labels=list(reversed(CLASSES)))
    assert estimator.fit(drawn).classes_.tolist() == CLASSES
    assert estimator.predict(drawn[:2]).tolist() == CLASSES[:2]


def test_classes_may_be_numbers_that_have_words(estimator, drawn):
    words = {7: "red square", 3: "red circle", 1: "blue square", 0: "blue circle"}
    y = [0, 1, 3, 7] * 3
    assert estimator.set_params(labels=words).fit(drawn, y).classes_.tolist() == [0, 1, 3, 7]
    assert estimator.predict(drawn).tolist() == y
    assert estimator.predict(drawn).dtype.kind == "i"


def test_probabilities_are_those_of_the_classifier(estimator, shared, drawn, y):
    shares = estimator.fit(drawn, y).predict_proba(drawn)
    assert (shares.shape, shares.dtype) == ((12, 4), np.float64)
    assert shares.sum(axis=1) == pytest.approx(1, abs=1e-12)
    direct = shared.classify(drawn[5], labels=CLASSES).probabilities
    assert shares[5] == pytest.approx([direct[name] for name in CLASSES], abs=5e-3)


def test_no_images_give_no_predictions(estimator):
    estimator.set_params(labels=CLASSES).fit([])
    assert estimator.predict([]).shape == (0,)
    assert estimator.predict_proba([]).shape == (0, 4)


def test_classes_may_be_any_unicode(estimator, drawn):
    labels = ["màu đỏ", "青", "🔵", "«x»"]
    assert set(estimator.set_params(labels=labels).fit(drawn).predict(drawn[:3])) <= set(labels)


def columns(drawn, tmp_path, png):
    """The same images in every form that X may have."""
    paths = []
    for number, image in enumerate(drawn):
        paths.append(tmp_path / f"{number}.png")
        image.save(paths[-1])
    objects = np.empty(len(drawn), dtype=object)
    objects[:] = drawn
    same_size = [np.asarray(image.resize((96, 96))) for image in drawn]
    yield from (tuple(drawn), paths, [str(path) for path in paths], np.array([str(path) for path in paths]))
    yield from ([png(image) for image in drawn], objects, objects[:, None], same_size, np.stack(same_size))


def test_X_may_be_any_column_of_images(estimator, drawn, y, tmp_path, png):
    estimator.fit(drawn, y)
    for images in columns(drawn[:4], tmp_path, png):
        assert estimator.predict(images).tolist() == y[:4]


def test_X_may_be_a_column_of_a_data_frame(estimator, drawn, y):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame({"image": drawn[:8], "class": y[:8]}, index=range(100, 108))
    assert estimator.fit(frame["image"], frame["class"]).score(frame["image"], frame["class"]) == 1
    assert estimator.predict(frame[["image"]]).tolist() == y[:8]
    assert cross_val_score(estimator, frame["image"], frame["class"], cv=2).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ("photo.png", "one image, photo.png"),
        (Path("photo.png"), "one image, photo.png"),
        (b"bytes", "one image"),
        (np.zeros((32, 32, 3), np.uint8), "one image"),
        (np.zeros((10, 64)), r"shape \(10, 64\)"),
        (np.zeros(()), "shape"),
        (7, "int"),
    ],
)
def test_what_is_no_column_of_images_is_refused(estimator, images, said):
    with pytest.raises(FastInferError, match=said) as raised:
        estimator.fit(images, ["a"])
    assert raised.value.hint


@pytest.mark.parametrize(
    ("labels", "y", "said"),
    [
        (None, None, "no classes"),
        (None, [], "empty"),
        (None, [0, 1], "0, a int: the model knows classes by words"),
        (None, [["a"], ["b"]], r"shape \(2, 1\)"),
        (None, ["a", None], "None"),
        (["a", "b"], ["a", "c"], "'c', which is not among the labels 'a', 'b'"),
        (["a", "b"], ["a"], "2 images and 1 classes"),
        (["a", "b"], [0, 0], "0, which is not among"),
        (["b", "a"], [0, 1], "0, which is not among"),
        (["a", "b"], [True, False], "True, which is not among"),
        (["a", "a"], None, "same"),
        ("ab", None, "list of strings"),
        ({0: "cat", 1: " cat"}, None, "same"),
        ({0: "cat", "1": "dog"}, None, "no order"),
    ],
)
def test_classes_that_do_not_fit_are_refused(estimator, drawn, labels, y, said):
    with pytest.raises(LabelError, match=said) as raised:
        estimator.set_params(labels=labels).fit(drawn[:2], y)
    assert raised.value.hint
    assert isinstance(raised.value, ValueError)  # as scikit-learn's own


def test_an_image_that_fails_is_named_with_its_index(estimator, drawn):
    estimator.set_params(labels=CLASSES).fit(drawn)
    with pytest.raises(ImageDecodeError, match=r"Image 3 of X, gone\.png: .*no such file") as raised:
        estimator.predict([*drawn[:3], "gone.png", drawn[4]])
    assert isinstance(raised.value.__cause__, ImageDecodeError)
    assert raised.value.hint == raised.value.__cause__.hint
    assert estimator.predict(drawn[:1]).tolist() == CLASSES[:1]


def test_it_must_be_fitted_first(drawn):
    with pytest.raises(NotFittedError):
        ImageClassifier(labels=CLASSES).predict(drawn)


def test_wrong_parameters_are_told_when_images_are_predicted(drawn):
    for parameters, error in (
        ({"preset": "prodd"}, PresetError),
        ({"changes": {"worker": 1}}, PresetError),
        ({"model": "missing.gguf"}, ModelNotFoundError),
    ):
        with pytest.raises(error):
            ImageClassifier(labels=CLASSES, **parameters).fit(drawn).predict(drawn)


def test_a_cross_validation_loads_the_model_once(estimator, drawn, y):
    estimator.fit(drawn, y).predict(drawn[:1])
    before = engines()
    assert cross_val_score(estimator, drawn, y, cv=3).tolist() == [1, 1, 1]
    assert cross_val_score(estimator, drawn, y, cv=3, scoring="neg_log_loss").mean() > -0.3
    assert engines() == before


def test_metrics_take_what_is_predicted(estimator, drawn, y):
    found = cross_val_predict(estimator, drawn, y, cv=3)
    assert accuracy_score(y, found) == 1
    assert classification_report(y, found, output_dict=True)["red square"]["f1-score"] == 1


def test_tools_that_number_the_classes_get_the_labels_in_ascending_order(estimator, drawn, y):
    shares = cross_val_predict(estimator.set_params(labels=CLASSES), drawn, y, cv=3, method="predict_proba")
    assert log_loss(y, shares) < 0.3
    assert VotingClassifier([("one", estimator)], voting="soft").fit(drawn, y).predict(drawn).tolist() == y


def test_a_grid_search_over_prompts_keeps_one_model_loaded(drawn, y):
    before = engines()
    prompts = ["What is this?", "Which figure?"]
    with ImageClassifier(changes=ONE_WORKER) as estimator:
        search = GridSearchCV(estimator, {"prompt": prompts}, cv=2).fit(drawn, y)
        assert len(engines() - before) == 1
        assert search.best_params_["prompt"] in prompts
        assert search.predict(drawn).tolist() == y
    assert engines() == before


def test_a_grid_search_over_words_finds_the_better_ones(estimator, drawn, y):
    good, bad = dict(zip(CLASSES, CLASSES, strict=True)), dict(zip(CLASSES, reversed(CLASSES), strict=True))
    search = GridSearchCV(estimator, {"labels": [bad, good]}, cv=2).fit(drawn, y)
    assert search.best_params_["labels"] == good
    assert search.cv_results_["mean_test_score"].tolist() == [0, 1]


def test_a_pipeline_ends_in_it(estimator, drawn, y):
    halved = FunctionTransformer(lambda images: [image.resize((48, 48)) for image in images])
    assert make_pipeline(halved, estimator).fit(drawn, y).score(drawn, y) == 1


def test_scikit_learns_own_calibration_takes_it(estimator, drawn, y):
    calibrated = CalibratedClassifierCV(estimator, method="sigmoid", cv=2).fit(drawn, y)
    assert calibrated.score(drawn, y) == 1


def test_calibrating_makes_probabilities_no_surer_than_they_are_right(estimator, drawn, y):
    wrong = [*y[:8], *reversed(y[8:])]
    before = estimator.fit(drawn, wrong).predict_proba(drawn)
    assert estimator.temperature_ == 1
    after = estimator.set_params(calibrate=True).fit(drawn, wrong).predict_proba(drawn)
    assert estimator.temperature_ > 1
    assert after.sum(axis=1) == pytest.approx(1, abs=1e-12)
    assert (after.argmax(axis=1) == before.argmax(axis=1)).all()
    assert log_loss(wrong, after) < log_loss(wrong, before)


def test_calibrating_needs_labelled_images(estimator, drawn):
    with pytest.raises(LabelError, match="no labelled images"):
        estimator.set_params(labels=CLASSES, calibrate=True).fit(drawn)


def test_a_clone_has_the_parameters_and_nothing_that_was_learned(estimator, drawn, y):
    with config_context(enable_metadata_routing=True):
        estimator.set_score_request(sample_weight=False)
    made = clone(estimator.set_params(prompt="What?", labels=CLASSES).fit(drawn, y))
    assert made.get_params() == estimator.get_params()
    assert made.labels is not estimator.labels
    assert not hasattr(made, "classes_")
    assert made.get_metadata_routing().score.requests == estimator.get_metadata_routing().score.requests


def test_a_pickled_estimator_loads_its_own_model_when_it_is_used(estimator, drawn, y):
    estimator.fit(drawn, y).predict(drawn[:1])
    before = engines()
    with pickle.loads(pickle.dumps(estimator)) as copied:
        assert engines() == before
        assert copied.predict(drawn[:4]).tolist() == y[:4]
        assert len(engines() - before) == 1
    assert engines() == before


def test_a_closed_estimator_loads_again(drawn, y):
    before = engines()
    estimator = ImageClassifier(changes=ONE_WORKER).fit(drawn, y)
    for _ in range(2):
        assert estimator.predict(drawn[:1]).tolist() == y[:1]
        estimator.close()
        estimator.close()
        assert engines() == before


def test_the_model_goes_with_the_last_that_shares_it(drawn, y):
    before = engines()
    estimator = ImageClassifier(changes=ONE_WORKER).fit(drawn, y)
    estimator.predict(drawn[:1])
    last = clone(estimator).fit(drawn, y)
    del estimator
    assert last.predict(drawn[:1]).tolist() == y[:1]
    assert len(engines() - before) == 1
    del last
    deadline = time.monotonic() + 20
    while engines() != before and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.02)
    assert engines() == before


def test_threads_share_the_model(estimator, drawn, y):
    before = engines()
    found: list[list[str]] = []
    clones = [clone(estimator).fit(drawn, y) for _ in range(4)]
    threads = [threading.Thread(target=lambda one=one: found.append(one.predict(drawn).tolist())) for one in clones]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [y] * 4
    assert len(engines() - before) <= 1


def test_scikit_learns_checks_pass_as_far_as_they_need_no_table_of_numbers():
    with pytest.warns(SkipTestWarning, match="requires input"):
        check_estimator(ImageClassifier(labels=CLASSES))


def test_without_scikit_learn_the_import_says_how_to_install_it(run_python):
    code = """
import sys
sys.modules["sklearn"] = None
import fastinfer
try:
    import fastinfer.sklearn
except fastinfer.errors.FastInferError as error:
    print(error)
"""
    done = run_python(code)
    assert "fastinfer.sklearn needs sklearn, which is not installed. Install it: pip install 'fastinfer[sklearn]'." in (
        done.stdout
    )
    assert done.stderr == ""
