"""``fastinfer.Results``: a sequence of results that becomes a data frame, an Arrow table or JSON lines, all alike."""

from __future__ import annotations

import copy
import json
import os
import pickle
import stat
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinfer
from examples import examples
from fastinfer import ChatTimings, Classification, Provenance, Reply, Results, Timings, Usage
from fastinfer.errors import FastInferError, ImageDecodeError
from fastinfer.tables.rows import classification_row, reply_row

TABLES = "the extra 'tables' is not installed"
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
MILLISECONDS = st.floats(0, 1e6)
PROVENANCE = Provenance("engine", "model", "preset", "0" * 16, "CPU", "path")


@st.composite
def classifications(draw):
    error = draw(st.none() | st.builds(ImageDecodeError, ANY_TEXT))
    if error is not None:
        return Classification(draw(ANY_TEXT), None, 0.0, {}, 0.0, 0, None, PROVENANCE, error)
    weights = draw(st.dictionaries(ANY_TEXT, st.floats(1e-300, 1), min_size=1, max_size=5))
    ranked = sorted(weights.items(), key=lambda pair: -pair[1])
    shares = {label: weight / sum(weights.values()) for label, weight in ranked}
    within = draw(st.none() | st.integers(0, len(shares)))
    return Classification(
        source=draw(ANY_TEXT),
        label=ranked[0][0],
        confidence=shares[ranked[0][0]],
        probabilities=shares,
        label_mass=draw(st.floats(0, 1)),
        prompt_tokens=draw(st.integers(1, 2**31 - 1)),
        timings=Timings(*(draw(MILLISECONDS) for _ in range(4)), draw(st.integers(1, 64))),
        provenance=PROVENANCE,
        prediction_set=None if within is None else tuple(shares)[:within],
        abstained=within is not None and within != 1,
    )


REPLIES = st.builds(
    Reply,
    text=ANY_TEXT,
    reasoning=ANY_TEXT,
    usage=st.builds(Usage, *[st.integers(0, 2**31 - 1)] * 3),
    timings=st.builds(ChatTimings, *[MILLISECONDS] * 4),
    parsed=st.none() | ANY_TEXT | st.dictionaries(ANY_TEXT, st.integers()),
    seed=st.none() | st.integers(0, 2**32 - 2),
    error=st.none() | st.builds(FastInferError, ANY_TEXT),
)
MANY = st.lists(classifications(), max_size=6) | st.lists(REPLIES, max_size=6)


def rows_of(results):
    return [reply_row(item) if isinstance(item, Reply) else classification_row(item) for item in results]


def rows_in(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@settings(max_examples=examples(40), deadline=None)
@given(many=MANY)
def test_json_lines_have_the_rows(tmp_path_factory, many):
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    Results(many).to_jsonl(path)
    assert rows_in(path) == rows_of(many)


@settings(max_examples=examples(40), deadline=None)
@given(many=MANY)
def test_an_arrow_table_has_the_same_rows(many):
    pytest.importorskip("pyarrow", reason=TABLES)
    from fastinfer.tables.arrow import to_rows

    table = Results(many).to_arrow()
    table.validate(full=True)
    found = to_rows(table)
    assert found == rows_of(many)
    for row in found:
        shares = list((row.get("probabilities") or {}).values())
        assert shares == sorted(shares, reverse=True)


@settings(max_examples=30, deadline=None)
@given(many=MANY)
def test_a_data_frame_has_the_same_rows(many):
    pandas = pytest.importorskip("pandas", reason=TABLES)
    frame = Results(many).to_pandas()
    rows = rows_of(many)
    assert len(frame) == len(rows)
    for index, row in enumerate(rows):
        assert list(frame.columns) == list(row)
        for name, value in row.items():
            found = frame[name][index]
            assert (value is None and pandas.isna(found)) or found == value


@pytest.mark.parametrize("timings", [True, False])
def test_a_parquet_file_keeps_a_table_of_results(images, replies, tmp_path, timings):
    pytest.importorskip("pyarrow", reason=TABLES)
    import pyarrow.parquet

    for many in (Results(images), Results(replies)):
        table = many.to_arrow(timings=timings)
        pyarrow.parquet.write_table(table, tmp_path / "kept.parquet")
        assert pyarrow.parquet.read_table(tmp_path / "kept.parquet").equals(table)


def test_an_arrow_table_has_the_documented_columns(images):
    pytest.importorskip("pyarrow", reason=TABLES)
    schema = Results(images).to_arrow().schema
    assert [(field.name, str(field.type)) for field in schema] == [
        ("source", "string"),
        ("label", "string"),
        ("confidence", "double"),
        ("label_mass", "double"),
        ("probabilities", "map<string, double>"),
        ("prediction_set", "list<item: string>"),
        ("abstained", "bool"),
        ("prompt_tokens", "int32"),
        ("error_type", "string"),
        ("error_message", "string"),
        ("decode_ms", "double"),
        ("queued_ms", "double"),
        ("encode_ms", "double"),
        ("score_ms", "double"),
        ("batch_size", "int32"),
    ]


def test_the_types_of_a_data_frame_do_not_depend_on_what_is_in_it(images, replies):
    pytest.importorskip("pandas", reason=TABLES)
    for many in (Results(images), Results(replies)):
        assert many.ok.to_pandas().dtypes.equals(many.to_pandas().dtypes)
        assert many[:0].to_pandas().dtypes.equals(many.to_pandas().dtypes)
    types = Results(images).to_pandas().dtypes.astype(str)
    assert types[["source", "confidence", "abstained", "prompt_tokens", "batch_size"]].tolist() == [
        "string", "float64", "bool", "int32", "Int32",
    ]  # fmt: skip


def test_a_data_frame_holds_probabilities_as_dictionaries(images):
    pytest.importorskip("pandas", reason=TABLES)
    frame = Results(images).to_pandas()
    assert frame.probabilities[0] == {"dog": 0.9, "cat": 0.1}
    assert frame.probabilities[2] is None
    assert frame[frame.error_type.isna()].groupby("label").confidence.mean().to_dict() == {"cat": 0.6, "dog": 0.9}


def test_real_results_become_a_table(shared, pictures, tmp_path):
    pytest.importorskip("pyarrow", reason=TABLES)
    results = Results(shared.classify_many([*pictures, os.fsdecode(b"no\xff.png")], errors="return"))
    assert len(results.to_arrow()) == len(results) == len(pictures) + 1
    assert results.to_arrow()["label"].to_pylist()[-1] is None
    results.to_jsonl(tmp_path / "r.jsonl", timings=False)
    assert [row["label"] for row in rows_in(tmp_path / "r.jsonl")] == [result.label for result in results]
    assert "decode_ms" not in rows_in(tmp_path / "r.jsonl")[0]


def test_it_is_a_sequence(images):
    results = Results(iter(images))
    assert (len(results), results[0], results[-1]) == (3, images[0], images[2])
    assert list(results) == images
    assert images[1] in results
    assert isinstance(results[1:], Results)
    assert list(results[::2]) == images[::2]
    with pytest.raises(IndexError):
        results[3]


def test_equal_results_are_equal(images, replies):
    assert Results(images) == Results(images) == Results(Results(images))
    assert Results(images) != Results(images[:2])
    assert Results(images) != Results(replies)
    assert Results(images) != images
    assert pickle.loads(pickle.dumps(Results(images)[:2])) == copy.deepcopy(Results(images)[:2]) == Results(images[:2])


def test_what_worked_and_what_failed_come_apart(images, replies):
    assert list(Results(images).ok) == images[:2]
    assert list(Results(images).errors) == images[2:]
    assert list(Results(replies).errors) == replies[2:]


def test_no_replies_are_still_replies(replies):
    pytest.importorskip("pyarrow", reason=TABLES)
    none = Results(replies[:2]).errors
    assert none.to_arrow().schema == Results(none).to_arrow().schema == Results(replies).to_arrow().schema
    assert "replies" in str(none)


def test_dictionaries_hold_everything(images):
    dicts = Results(images).to_dicts()
    assert dicts == [image.to_dict() for image in images]
    json.dumps(dicts, allow_nan=False)


def test_the_two_kinds_do_not_mix(images, replies):
    with pytest.raises(TypeError, match="item 3 is a Reply, not a Classification"):
        Results([*images, *replies])
    with pytest.raises(TypeError, match="item 0 is a str, not a Classification"):
        Results("text")


def test_what_the_iterable_raises_is_raised(shared, pictures):
    with pytest.raises(ImageDecodeError):
        Results(shared.classify_many([pictures[0], b"no image"]))


def test_a_file_is_there_whole_or_as_it_was(images, tmp_path):
    path = tmp_path / "out.jsonl"
    Results(images).to_jsonl(path)
    before = path.read_bytes()
    broken = Results([*images, Classification("d", "x", float("nan"), {}, 0.0, 0, None, PROVENANCE)])
    with pytest.raises(FastInferError, match="JSON"):
        broken.to_jsonl(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="links and permissions are those of POSIX")
def test_a_link_stays_a_link_and_permissions_stay(images, tmp_path):
    path, link = tmp_path / "out.jsonl", tmp_path / "link.jsonl"
    path.touch()
    path.chmod(0o600)
    link.symlink_to(path)
    Results(images).to_jsonl(link)
    assert link.is_symlink()
    assert len(rows_in(path)) == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["missing/out.jsonl", ".", "nul\0.jsonl"])
def test_a_file_that_cannot_be_written_is_named(images, tmp_path, name):
    with pytest.raises(FastInferError) as raised:
        Results(images).to_jsonl(tmp_path / name)
    assert raised.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("library", "method"), [("pandas", "to_pandas"), ("pyarrow", "to_arrow")])
def test_a_missing_library_is_named_with_the_command_that_installs_it(images, monkeypatch, library, method):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(FastInferError, match=rf"{library}, which is not installed.*fastinfer\[tables\]") as raised:
        getattr(Results(images), method)()
    assert isinstance(raised.value.__cause__, ModuleNotFoundError)


def test_results_are_had_without_pandas_and_pyarrow(run_python):
    done = run_python("import sys, fastinfer; fastinfer.Results([]); print({'pandas', 'pyarrow'} & set(sys.modules))")
    assert (done.stdout, done.stderr) == ("set()\n", "")
    assert fastinfer.Results is Results
