"""The output: three forms of one content, whole or not there, and never another configuration's by accident."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastinfer
from fastinfer.errors import FastInferError
from fastinfer.jobs.progress import Progress
from fastinfer.jobs.writers import COLUMNS, read, write

COLUMN_NAMES = [
    *("path", "label", "confidence", "label_mass", "probabilities", "prediction_set", "abstained", "prompt_tokens"),
    *("error_type", "error_message", "configuration"),
]


def row(place: int, **changes: Any) -> dict[str, Any]:
    """A row with every column set to something that is easily lost."""
    values = {
        "path": f'a, "b"/\n{place}.png',
        "label": "ä\u2028",
        "confidence": 0.1 + 0.2,
        "label_mass": 1e-300,
        "probabilities": {"b": 2 / 3, "a": 1 / 3},
        "prediction_set": ["b", "a,b"],
        "abstained": True,
        "prompt_tokens": place,
        "error_type": None,
        "error_message": None,
        "configuration": "0" * 16,
    }
    return values | changes


def test_columns_are_those_that_are_documented() -> None:
    assert [column.name for column in COLUMNS] == COLUMN_NAMES


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_rows_come_back_as_they_were_and_are_the_same_bytes(tmp_path: Path, ending: str) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    failed = row(1, label=None, confidence=None, label_mass=None, probabilities=None, prediction_set=None)
    rows = [row(0), failed | {"abstained": False, "error_type": "E", "error_message": "m"}]
    rows += [row(place, prediction_set=[]) for place in range(2, 5000)]
    written = []
    for name in ("one", "other"):
        with (tmp_path / f"{name}{ending}").open("wb") as stream:
            write(stream, ending, (dict(each) for each in rows))
        written.append((tmp_path / f"{name}{ending}").read_bytes())
    assert written[0] == written[1]
    back = list(read(tmp_path / f"one{ending}"))
    assert back == rows
    assert [list(each["probabilities"] or ()) for each in back[:2]] == [["b", "a"], []]


def test_three_forms_of_a_job_hold_the_same(engine: Any, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    made = [fastinfer.run(photos, tmp_path / f"out.{ending}", using=engine) for ending in ("jsonl", "csv", "parquet")]
    first, *others = (list(summary.results()) for summary in made)
    assert all(rows == first for rows in others)
    assert [list(each) for each in first] == [COLUMN_NAMES] * 13
    for summary in made:
        assert summary.to_arrow().column_names == COLUMN_NAMES
        assert summary.to_arrow().num_rows == 13


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_rows_of_this_run_and_rows_of_the_journal_are_the_same_bytes(
    engine: Any, photos: Path, tmp_path: Path, ending: str
) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    output = tmp_path / f"out.{ending}"
    fastinfer.run(photos, output, using=engine)
    computed = output.read_bytes()
    assert fastinfer.run(photos, output, using=engine).computed == 0
    assert output.read_bytes() == computed


def test_rows_are_written_while_later_ones_are_computed(
    engine: Any, tmp_path: Path, paint: Callable[[Path, int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(60):
        paint(tmp_path / "many" / f"{seed:02}.png", seed)
    done: list[int] = []
    tick = Progress.done
    monkeypatch.setattr(Progress, "done", lambda *args, **options: done.append(1) or tick(*args, **options))
    seen: list[int] = []

    def watched(stream: Any, ending: str, rows: Any) -> None:
        write(stream, ending, (seen.append(len(done)) or row for row in rows))

    monkeypatch.setattr("fastinfer.jobs.runner.write", watched)
    fastinfer.run(tmp_path / "many", tmp_path / "out.jsonl", using=engine)
    assert seen == list(range(1, 61))


def test_a_summary_gives_a_data_frame(engine: Any, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    frame = fastinfer.run(photos, tmp_path / "out.csv", using=engine).to_pandas()
    assert list(frame.columns) == COLUMN_NAMES
    assert frame["label"].notna().sum() == 12


def test_a_summary_says_how_it_went(engine: Any, photos: Path, tmp_path: Path) -> None:
    summary = fastinfer.run(photos, tmp_path / "out.csv", using=engine)
    assert "13 images: 11 computed, 0 known from before, 2 copies of others, 1 with an error" in str(summary)
    assert "ImageDecodeError" in summary._repr_html_()
    said = json.loads(json.dumps(summary.to_dict()))
    assert said["output"] == str(tmp_path / "out.csv")
    assert said["provenance"]["fingerprint"] == engine.preset.fingerprint
    assert summary.rate > 0


def test_top_keeps_the_likeliest(engine: Any, photos: Path, tmp_path: Path) -> None:
    rows = list(fastinfer.run(photos, tmp_path / "out.jsonl", using=engine, top=2).results())
    assert {len(each["probabilities"]) for each in rows if each["probabilities"]} == {2}
    assert all(each["label"] == next(iter(each["probabilities"])) for each in rows if each["label"])


def test_without_labels_the_model_names_what_it_sees(photos: Path, tmp_path: Path) -> None:
    summary = fastinfer.run(photos, tmp_path / "out.csv", limit=2, workers=1, n_threads=1)
    assert all(each["probabilities"] == {each["label"]: each["confidence"]} for each in summary.results())


def test_a_calibration_gives_prediction_sets_and_is_another_configuration(
    fresh: Callable[..., Any], photos: Path, tmp_path: Path
) -> None:
    calibrated = fresh(labels=["red", "green"], workers=1)
    labelled = [(photos / f"a/{seed}.png", "red") for seed in (0, 3, 6)]
    calibrated.calibrate(labelled, coverage=0.5).save(tmp_path / "calibration.json")
    options = {"labels": ["red", "green"], "workers": 1, "n_threads": 1, "limit": 3}
    plain = fastinfer.run(photos, tmp_path / "plain.jsonl", **options)
    loaded = fastinfer.run(photos, tmp_path / "out.jsonl", calibration=tmp_path / "calibration.json", **options)
    assert loaded.configuration != plain.configuration
    assert loaded.provenance.calibration == calibrated.calibration.fingerprint
    assert [row["prediction_set"] is None for row in plain.results()] == [True] * 3
    assert [row["prediction_set"] is None for row in loaded.results()] == [False] * 3
    own = fastinfer.run(photos, tmp_path / "own.jsonl", using=calibrated, limit=3)
    assert own.output.read_bytes() == loaded.output.read_bytes()


def test_another_configuration_does_not_replace_an_output(engine: Any, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    first = fastinfer.run(photos, output, using=engine)
    before = output.read_bytes()
    with pytest.raises(
        FastInferError, match=r'made by another configuration: labels: .*"line".* there, \["a", "b"\] here'
    ):
        fastinfer.run(photos, output, using=engine, labels=["a", "b"])
    assert output.read_bytes() == before
    other = fastinfer.run(photos, output, using=engine, labels=["a", "b"], overwrite=True)
    assert (other.computed, other.reused) == (11, 0)
    assert other.configuration != first.configuration
    back = fastinfer.run(photos, output, using=engine, overwrite=True)
    assert (back.computed, back.reused) == (0, 11)
    assert output.read_bytes() == before


@pytest.mark.parametrize("content", ["mine", None])
def test_an_output_that_no_job_made_is_not_replaced(
    engine: Any, photos: Path, tmp_path: Path, content: str | None
) -> None:
    output = tmp_path / "out.jsonl"
    if content is None:
        fastinfer.run(photos, output, using=engine)
        (tmp_path / "out.jsonl.journal").unlink()
    else:
        output.write_text(content)
    before = output.read_bytes()
    with pytest.raises(FastInferError, match=r"is there already, and .*out\.jsonl\.journal does not know it"):
        fastinfer.run(photos, output, using=engine)
    assert output.read_bytes() == before
    fastinfer.run(photos, output, using=engine, overwrite=True)
    assert output.read_bytes() != b"mine"


def test_the_output_is_never_seen_in_parts(
    engine: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.jsonl"
    fastinfer.run(photos, output, using=engine, limit=3)
    before = output.read_bytes()
    (tmp_path / ".out.jsonl.part").write_text("what a killed run left behind")
    seen = []

    def watched(*args: Any) -> None:
        for place, _ in enumerate(args[2]):
            args[0].write(b"a row\n")
            args[0].flush()
            seen.append((place, output.read_bytes() == before))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("fastinfer.jobs.runner.write", watched)
        with pytest.raises(FastInferError, match="cannot be written: No space left on device"):
            fastinfer.run(photos, output, using=engine)
    assert seen == [(place, True) for place in range(13)]
    assert output.read_bytes() == before
    assert not (tmp_path / ".out.jsonl.part").exists()
    assert fastinfer.run(photos, output, using=engine).reused == 11


@pytest.mark.parametrize(
    ("ending", "content"), [("csv", b""), ("csv", b"a,b\n1,2\n"), ("jsonl", b"{"), ("csv", b"\xff")]
)
def test_an_output_that_was_spoilt_is_an_error(tmp_path: Path, ending: str, content: bytes) -> None:
    file = tmp_path / f"out.{ending}"
    file.write_bytes(content)
    with pytest.raises(FastInferError, match="cannot be read"):
        list(read(file))
