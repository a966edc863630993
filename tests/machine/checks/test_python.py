"""Python's rows: versions against what packages say in their own metadata, the C library, and Pillow's codecs."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastinfer.machine.checks.python import PythonReading, judge, read
from fastinfer.machine.checks.requirements import requirement, requirements

ALL = frozenset({"jpg", "zlib", "webp", "avif", "libtiff"})
PLAIN = PythonReading("3.12.4", ("3.11", "3.12"), False, ("glibc", "2.36"), ((2, 28), "numpy"), (), ALL)
FASTINFER = (
    "Requires-Dist: numpy>=1.26\nRequires-Dist: Pillow>=10.3\nRequires-Dist: llama-cpp-python<0.4,>=0.3.36\n"
    "Requires-Dist: tomli>=2.0; python_version < '3.0'\nRequires-Dist: lmdeploy<0.19,>=0.18; extra == 'turbomind'\n"
    "Classifier: Programming Language :: Python :: 3 :: Only\nClassifier: Programming Language :: Python :: 3.11\n"
    "Classifier: Programming Language :: Python :: 3.12\n"
)
LMDEPLOY = "Requires-Dist: torch<=2.12.1,>=2.0.0\nRequires-Dist: transformers>=4.56.0\nRequires-Dist: ray\n"

Install = Callable[..., list[str]]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Write a package's metadata into a folder; the folder, as a path to look in."""

    def write(name: str, version: str, metadata: str = "", tags: str = "") -> list[str]:
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}"
        (folder / "METADATA").write_text(text, "utf-8")
        (folder / "WHEEL").write_text(f"Wheel-Version: 1.0\n{tags}", "utf-8")
        return [str(tmp_path)]

    return write


def test_what_fastinfer_needs_is_read_from_its_metadata(install: Install) -> None:
    path = install("fastinfer", "1.0", FASTINFER)
    assert [each.name for each in requirements("fastinfer", path) or ()] == ["numpy", "Pillow", "llama-cpp-python"]
    assert requirement("lmdeploy", path) == "lmdeploy<0.19,>=0.18"
    assert requirement("pillow", path) == "Pillow>=10.3"
    assert requirement("unheard-of", path) == "unheard-of"
    assert requirements("unheard-of", path) is None


def test_damaged_metadata_is_a_value_error(install: Install) -> None:
    with pytest.raises(ValueError, match="not a requirement"):
        requirements("fastinfer", install("fastinfer", "1.0", "Requires-Dist: not a requirement\n"))


def test_packages_within_their_ranges_are_one_row(install: Install, by_name: Any) -> None:
    install("numpy", "2.1.0", tags="Tag: cp312-cp312-manylinux_2_17_x86_64.manylinux_2_27_x86_64\n")
    install("pillow", "12.0.0rc1", tags="Tag: cp312-cp312-manylinux_2_28_x86_64\n")
    reading = read(install("fastinfer", "1.0", FASTINFER))
    assert list(reading.tested) == ["3.11", "3.12"]
    assert reading.libc_wanted == ((2, 28), "Pillow")
    row = by_name(judge(dataclasses.replace(reading, version="3.12.4", codecs=ALL)))["packages"]
    assert (row.status, row.found) == ("ok", "numpy 2.1.0, Pillow 12.0.0rc1")


def test_a_package_outside_its_range_and_one_that_is_missing_have_rows(install: Install, by_name: Any) -> None:
    install("numpy", "1.20.0")
    install("lmdeploy", "0.18.0", LMDEPLOY)
    install("torch", "2.13.0+cpu")
    found = by_name(judge(read(install("fastinfer", "1.0", FASTINFER))))
    assert found["packages"].found == "none"
    assert (found["numpy"].status, found["numpy"].remedy) == ("warn", "pip install 'numpy>=1.26'")
    assert (found["Pillow"].status, found["Pillow"].meaning) == ("fail", "fastinfer needs it.")
    assert (found["torch"].status, found["torch"].found) == ("warn", "2.13.0+cpu")
    assert "LMDeploy is known to work with <=2.12.1,>=2.0.0." in found["torch"].meaning
    assert "transformers" not in found  # missing, which TurboMind's own row says where it matters
    assert "llama-cpp-python" not in found


def test_fastinfer_that_is_not_installed_cannot_be_compared(tmp_path: Path, by_name: Any) -> None:
    reading = read([str(tmp_path)])
    assert (list(reading.tested), reading.packages, reading.libc_wanted) == ([], None, ((0, 0), ""))
    row = by_name(judge(reading))["packages"]
    assert (row.status, row.remedy) == ("warn", "pip install --editable .")


def test_this_python_is_read(by_name: Any) -> None:
    reading = read()
    assert reading.version == platform.python_version()
    assert reading.codecs is not None
    assert {"jpg", "zlib"} <= reading.codecs
    assert {"Python", "packages", "C library", "Pillow's codecs"} <= set(by_name(judge(reading)))


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({}, "ok", "Supported."),
        ({"tested": ()}, "ok", "Supported."),
        ({"version": "3.14.0"}, "warn", "Not tested with fastinfer, which is with 3.11, 3.12."),
        ({"free_threaded": True}, "warn", "Not supported"),
    ],
)
def test_pythons_version_is_judged(by_name: Any, changes: dict[str, Any], status: str, said: str) -> None:
    row = by_name(judge(dataclasses.replace(PLAIN, **changes)))["Python"]
    assert row.status == status
    assert said in row.meaning


@pytest.mark.parametrize(
    ("libc", "status", "said"),
    [
        (("glibc", "2.36"), "ok", "need 2.28"),
        (("glibc", "2.17"), "fail", "The wheel of numpy that is installed was built for glibc 2.28"),
        (("musl", "1.2.4"), "warn", "wheels for glibc alone"),
        (("", ""), "ok", "does not tell"),
    ],
)
def test_the_c_library_is_judged(by_name: Any, libc: tuple[str, str], status: str, said: str) -> None:
    row = by_name(judge(dataclasses.replace(PLAIN, libc=libc)))["C library"]
    assert row.status == status
    assert said in row.meaning


@pytest.mark.parametrize(
    ("codecs", "status", "said"),
    [
        (ALL, "ok", "All formats"),
        (ALL - {"avif"}, "warn", "without AVIF"),
        (ALL - {"jpg", "webp"}, "fail", "without JPEG, WEBP"),
        (None, "fail", "No image can be read."),
        (frozenset(), "fail", "without JPEG"),
    ],
)
def test_pillows_codecs_are_judged(by_name: Any, codecs: frozenset[str] | None, status: str, said: str) -> None:
    row = by_name(judge(dataclasses.replace(PLAIN, codecs=codecs)))["Pillow's codecs"]
    assert row.status == status
    assert said in row.meaning
