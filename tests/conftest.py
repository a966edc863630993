"""Pictures, one loaded classifier for all tests that leave it as it is, and fresh ones for those that do not."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

import examples

pytest_plugins = ("fault_report",)

examples.register_profiles()
SOURCES = Path(__file__).resolve().parents[1] / "src"
VARIABLES = ("FASTINFER_PRESETS", "FASTINFER_CLASSIFY_MODEL", "FASTINFER_CHAT_MODEL")


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Ctrl-C is a KeyboardInterrupt here, also where a shell started the tests in the background, and so without it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def bare_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory of an account without preset files and without this library's variables."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setenv("APPDATA", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return folder


def draw_picture(shape: str, colour: str, background: str = "white", size: int = 96) -> Image.Image:
    """A shape on a plain background."""
    image = Image.new("RGB", (size, size), background)
    pen, low, high = ImageDraw.Draw(image), size // 5, size - size // 5
    if shape == "circle":
        pen.ellipse((low, low, high, high), fill=colour)
    elif shape == "square":
        pen.rectangle((low, low, high, high), fill=colour)
    elif shape == "triangle":
        pen.polygon([(size // 2, low), (high, high), (low, high)], fill=colour)
    else:
        pen.line((low, low, high, high), fill=colour, width=size // 8)
    return image


@pytest.fixture(scope="session")
def draw() -> Callable[..., Image.Image]:
    """``draw(shape, colour, background, size)``."""
    return draw_picture


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Six pictures that the model tells apart."""
    return [
        draw_picture("circle", "red"),
        draw_picture("square", "red"),
        draw_picture("triangle", "blue"),
        draw_picture("circle", "green", "black"),
        draw_picture("line", "black", "yellow"),
        Image.linear_gradient("L").resize((96, 96)).convert("RGB"),
    ]


@pytest.fixture(scope="session")
def png() -> Callable[[Image.Image], bytes]:
    """A picture as the bytes of a PNG file."""

    def encode(image: Image.Image) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()

    return encode


@pytest.fixture(scope="session")
def labels() -> list[str]:
    """A label set with shared first tokens and a prefix."""
    return ["red circle", "red square", "blue triangle", "green circle", "green circle on black", "line"]


def _open(*args: Any, **options: Any) -> Any:
    """A classifier that no file or variable of this machine has a say in; one worker gets one thread."""
    import fastinfer

    if options.get("workers") == 1:
        options.setdefault("n_threads", 1)  # several threads wait for each other when tests run beside other work
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        return fastinfer.classifier(*args, **options)


@pytest.fixture(scope="session")
def babbler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a chat model with random weights, with ChatML in it."""
    import tiny_chat

    return tiny_chat.write_babbler(tmp_path_factory.mktemp("babbler") / "babbler.gguf", tiny_chat.CHATML)


@pytest.fixture(scope="session")
def shared(labels: list[str]) -> Iterator[Any]:
    """One loaded classifier with ``labels`` for every test that neither closes nor changes it."""
    with _open(labels=labels) as classifier:
        yield classifier


@pytest.fixture(scope="session")
def shared_open() -> Iterator[Any]:
    """One loaded classifier without labels, under the same rule."""
    with _open(workers=1) as classifier:
        yield classifier


@pytest.fixture
def fresh() -> Iterator[Callable[..., Any]]:
    """Make classifiers of one's own; they are closed after the test."""
    made: list[Any] = []

    def make(*args: Any, **options: Any) -> Any:
        made.append(_open(*args, **options))
        return made[-1]

    yield make
    for classifier in made:
        classifier.close()


@pytest.fixture(scope="session")
def same() -> Callable[..., None]:
    """Check that two results are the same answer, up to the float16 rounding of llama.cpp's flash attention."""

    def check(one: Any, other: Any, tolerance: float = 5e-3) -> None:
        assert one.error is None
        assert other.error is None
        assert set(one.probabilities) == set(other.probabilities)
        for label, probability in one.probabilities.items():
            assert other.probabilities[label] == pytest.approx(probability, abs=tolerance)
        assert other.label_mass == pytest.approx(one.label_mass, abs=tolerance)

    return check


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """A folder with empty files of these names: ``tree("dog/1.png", ...)``."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        (tmp_path / "images").mkdir(exist_ok=True)
        return tmp_path / "images"

    return make


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run code in a fresh interpreter; a native crash is its exit code and nobody else's."""

    def run(code: str, *args: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k not in VARIABLES and not k.startswith("COV_")}
        environment |= {"PYTHONPATH": str(SOURCES), "GGML_NO_BACKTRACE": "1"}
        return subprocess.run(
            [sys.executable, "-c", code, *args],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
            cwd=tmp_path,
        )

    return run
