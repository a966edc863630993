"""Python, its packages against the versions that are known to work, and what Pillow can read."""

from __future__ import annotations

import platform
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from fastinfer.machine.checks.check import Check
from fastinfer.machine.checks.requirements import distribution, requirements

__all__ = ["PythonReading", "Wanted", "judge", "read"]

_AREA: Final = "python"
#: Looked at beside what fastinfer needs: what LMDeploy needs of these is what LMDeploy was tested with.
_OF_LMDEPLOY: Final = ("torch", "transformers")
#: Have rows of their own, about more than their version.
_ENGINES: Final = ("llama-cpp-python", "lmdeploy")
#: Pillow's names for what it was built with, and the formats that hang on it.
_CODECS: Final = {"jpg": "JPEG", "zlib": "PNG", "webp": "WEBP", "avif": "AVIF", "libtiff": "compressed TIFF"}
_VITAL: Final = ("jpg", "zlib")
_CLASSIFIER: Final = re.compile(r"Programming Language :: Python :: (\d+\.\d+)")
_GLIBC_TAG: Final = re.compile(r"manylinux_(\d+)_(\d+)_")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A package and its versions.

    Attributes:
        name: as package registries have it.
        versions: those that are known to work.
        installed: the one that is installed, or None.
        by: the package that wants it.
    """

    name: str
    versions: SpecifierSet
    installed: str | None
    by: str


@dataclass(frozen=True, slots=True)
class PythonReading:
    """The interpreter and what is installed.

    Attributes:
        version: Python's, ``"3.12.4"`` for example.
        tested: versions that fastinfer is tested with, ``"3.12"`` for example; empty where it is not installed.
        free_threaded: a build without the global interpreter lock.
        libc: name and version of the C library; empty where there is none to speak of.
        libc_wanted: the oldest glibc that the installed wheels allow, (2, 28) for example, and the wheel's name.
        packages: what is wanted, None where fastinfer is not installed and nothing says so.
        codecs: Pillow's names for what it was built with; None where Pillow cannot be imported.
    """

    version: str
    tested: Sequence[str]
    free_threaded: bool
    libc: tuple[str, str]
    libc_wanted: tuple[tuple[int, int], str]
    packages: Sequence[Wanted] | None
    codecs: frozenset[str] | None


def read(path: Sequence[str] | None = None) -> PythonReading:
    """Read about this interpreter and what is installed for it.

    Args:
        path: folders with packages; None for those that Python imports from.

    Raises:
        ValueError: metadata of an installed package is damaged.
    """
    return PythonReading(
        version=platform.python_version(),
        tested=_tested(path),
        free_threaded=bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        libc=platform.libc_ver() if sys.platform == "linux" else ("", ""),
        libc_wanted=_glibc_of_wheels(path),
        packages=_packages(path),
        codecs=_codecs(),
    )


def judge(reading: PythonReading) -> Iterator[Check]:
    """The rows on Python."""
    yield _python(reading)
    yield from _versions(reading.packages)
    yield _libc(reading)
    yield _pillow(reading.codecs)


def _python(reading: PythonReading) -> Check:
    name, found = "Python", reading.version
    if reading.free_threaded:
        found += ", without the global interpreter lock"
        meaning = "Not supported: the engines' bindings are not tested without the lock. Use the ordinary build."
        return Check(_AREA, name, "warn", found, meaning, "python3 -m venv .venv && .venv/bin/pip install fastinfer")
    minor = ".".join(reading.version.split(".")[:2])
    if reading.tested and minor not in reading.tested:
        meaning = f"Not tested with fastinfer, which is with {', '.join(reading.tested)}."
        newest = reading.tested[-1]
        remedy = f"python{newest} -m venv .venv && .venv/bin/pip install fastinfer"
        return Check(_AREA, name, "warn", found, meaning, remedy)
    return Check(_AREA, name, "ok", found, "Supported.")


def _versions(packages: Sequence[Wanted] | None) -> Iterator[Check]:
    name = "packages"
    if packages is None:
        meaning = "fastinfer runs from a folder without being installed, so nothing says which versions it works with. "
        meaning += "Install it in that folder."
        yield Check(_AREA, name, "warn", "not compared", meaning, "pip install --editable .")
        return
    missing = [each for each in packages if each.installed is None]
    other = [
        each for each in packages if each.installed and not each.versions.contains(each.installed, prereleases=True)
    ]
    fit = [f"{each.name} {each.installed}" for each in packages if each not in missing and each not in other]
    yield Check(_AREA, name, "ok", ", ".join(fit) or "none", "Of the versions that are known to work.")
    for each in missing:
        yield Check(_AREA, each.name, "fail", "not installed", f"{each.by} needs it.", _install(each))
    for each in other:
        meaning = f"{each.by} is known to work with {each.versions}."
        yield Check(_AREA, each.name, "warn", str(each.installed), meaning, _install(each))


def _libc(reading: PythonReading) -> Check:
    name = "C library"
    kind, version = reading.libc
    found = f"{kind} {version}".strip() or "not told"
    if kind != "glibc":
        if kind:
            meaning = "torch and LMDeploy come as wheels for glibc alone; llama.cpp is compiled, which works."
            return Check(_AREA, name, "warn", found, meaning, "docker run -it python:3.12-slim")
        return Check(_AREA, name, "ok", found, "This system has none that wheels depend on, or does not tell.")
    wanted, wheel = reading.libc_wanted
    said = f"{wanted[0]}.{wanted[1]}"
    if tuple(map(int, version.split(".")[:2])) < wanted:
        meaning = f"The wheel of {wheel} that is installed was built for glibc {said}: it came from another system."
        return Check(_AREA, name, "fail", found, meaning, f"pip install --force-reinstall {wheel}")
    return Check(_AREA, name, "ok", found, f"The wheels that are installed need {said}." if wheel else "New enough.")


def _pillow(codecs: frozenset[str] | None) -> Check:
    name, remedy = "Pillow's codecs", "pip install --force-reinstall --only-binary :all: pillow"
    if codecs is None:
        return Check(_AREA, name, "fail", "Pillow cannot be imported", "No image can be read.", remedy)
    found = ", ".join(formats for codec, formats in _CODECS.items() if codec in codecs) or "none"
    lacking = [codec for codec in _CODECS if codec not in codecs]
    if not lacking:
        return Check(_AREA, name, "ok", found, "All formats that fastinfer reads.")
    formats = ", ".join(_CODECS[codec] for codec in lacking)
    meaning = f"This Pillow was built without {formats}: such images give an error. The wheels of today have all."
    return Check(_AREA, name, "fail" if set(lacking) & set(_VITAL) else "warn", found, meaning, remedy)


def _install(wanted: Wanted) -> str:
    return f"pip install '{wanted.name}{wanted.versions}'"


def _tested(path: Sequence[str] | None) -> list[str]:
    found = distribution("fastinfer", path)
    classifiers = [] if found is None else found.metadata.get_all("Classifier") or []
    return [match[1] for line in classifiers if (match := _CLASSIFIER.fullmatch(line))]


def _packages(path: Sequence[str] | None) -> list[Wanted] | None:
    own = requirements("fastinfer", path)
    if own is None:
        return None
    wanted = [(each, "fastinfer") for each in own if canonicalize_name(each.name) not in _ENGINES]
    wanted += [(each, "LMDeploy") for each in requirements("lmdeploy", path) or () if each.name in _OF_LMDEPLOY]
    found = [(each, distribution(each.name, path), by) for each, by in wanted]
    return [
        Wanted(each.name, each.specifier, None if there is None else there.version, by)
        for each, there, by in found
        # Where one of LMDeploy's is missing, TurboMind cannot be imported, which is a row of its own where it matters.
        if there is not None or by == "fastinfer"
    ]


def _glibc_of_wheels(path: Sequence[str] | None) -> tuple[tuple[int, int], str]:
    """The newest glibc that the wheels of fastinfer's packages were built for, and which of them it was."""
    newest, name = (0, 0), ""
    for each in [*(requirements("fastinfer", path) or ()), *(requirements("lmdeploy", path) or ())]:
        found = distribution(each.name, path)
        # A wheel may have tags for several; the oldest is what it needs.
        tags = _GLIBC_TAG.findall("" if found is None else found.read_text("WHEEL") or "")
        oldest = min(((int(major), int(minor)) for major, minor in tags), default=newest)
        if oldest > newest:
            newest, name = oldest, each.name
    return newest, name


def _codecs() -> frozenset[str] | None:
    try:
        from PIL import features
    except ImportError:
        return None
    # An older Pillow would warn about names that it does not know.
    known: Mapping[str, object] = {**features.codecs, **features.modules}
    return frozenset(codec for codec in _CODECS if codec in known and features.check(codec))
