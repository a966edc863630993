"""What only shows in a process of its own: imports, signals, pipes, encodings."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import fastinfer

HEAVY = (
    *("numpy", "PIL", "llama_cpp", "jinja2", "huggingface_hub", "tqdm"),
    *("fastinfer.preset_library", "fastinfer.classify", "fastinfer.chat", "fastinfer.planning"),
)
COMMANDS = (
    *("demo", "classify", "chat", "presets", "explain"),
    *("plan", "doctor", "tune", "bench", "compare", "verify", "calibrate", "report"),
)


@pytest.fixture
def many(samples: Path) -> Path:
    folder = Path("many")
    folder.mkdir()
    for i in range(1500):
        shutil.copy(samples / "7.png", folder / f"{i:04}.png")
    return folder


def test_version(run: Any) -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"fastinfer {fastinfer.__version__}\n")


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_help_lists_the_commands(run: Any, arguments: list[str]) -> None:
    written = run(*arguments).output
    assert all(f"│ {command} " in written for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(run: Any, command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"  fastinfer {command}" in result.stdout
    assert "--json" in result.stdout


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom fastinfer.cli import main\ntry:\n    main()\nexcept SystemExit as end:\n"
        f"    sys.exit(end.code or ','.join(set(sys.modules) & set({HEAVY})) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "classify" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT for one process")
def test_interrupted(start: Any, many: Path) -> None:
    process = start("classify", many)
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, b"")


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT for one process")
def test_interrupted_while_it_reads(start: Any) -> None:
    reading, writing = os.pipe()
    # It reads stdin to its end, which does not come.
    process = start("classify", "-", stdin=reading)
    os.close(reading)
    for _ in range(2):
        os.write(writing, bytes(2**16))  # the second one waits until the first is read, when all is imported
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    os.close(writing)
    assert (process.returncode, errors) == (130, b"")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_closed_pipe_ends_it_quietly(start: Any, many: Path, options: list[str]) -> None:
    process = start("classify", many, *options)
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=20) == 1
    process.stderr.close()


@pytest.mark.parametrize("arguments", [["explain", "balanced"], ["presets", "--json"], ["--help"]])
def test_a_pipe_closed_before_it_starts(start: Any, arguments: list[str]) -> None:
    process = start(*arguments)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=20) == 1
    process.stderr.close()


def test_results_come_as_they_are_done(start: Any, many: Path) -> None:
    process = start("classify", many, "--json")
    assert process.stdout.readline().startswith(b'{"path"')
    assert process.poll() is None
    process.kill()
    process.communicate()


def test_any_encoding_can_be_written(start: Any, samples: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = start("classify", samples / "7.png", "--labels", "七 7", env=environment)
    out, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, b"")
    assert rb"\u4e03 7" in out
