"""Every notebook runs from a fresh kernel; Ctrl-C in one leaves the engines usable, and progress is a widget."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny_chat
from kernels import UNDER_WAY, Kernel

for _library in ("ipykernel", "ipywidgets", "pandas", "prometheus_client", "pyarrow"):
    pytest.importorskip(_library, reason="notebooks need what the extra dev brings")
nbclient = pytest.importorskip("nbclient", reason="notebooks need what the extra dev brings")
nbformat = pytest.importorskip("nbformat", reason="notebooks need what the extra dev brings")

# Jupyter's own packages warn about each other.
pytestmark = pytest.mark.filterwarnings("ignore")

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ON_A_GPU = ROOT / "notebooks/turbomind_on_a_gpu.ipynb"
HERE = [path for path in NOTEBOOKS if path != ON_A_GPU]
WIDGET = "application/vnd.jupyter.widget-view+json"


def read(path: Path) -> Any:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_of(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """That of a kernel: no preset, model or profile of this account, and a chat model that takes tools."""
    folder = tmp_path_factory.mktemp("kernel")
    template = (SOURCES / "fastinfer/prompts/templates/chatml.jinja").read_text("utf-8")
    model = tiny_chat.write_babbler(folder / "babbler.gguf", template)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FASTINFER_")}
    own = {"PYTHONPATH": str(SOURCES), "IPYTHONDIR": str(folder / "profile"), "FASTINFER_CHAT_MODEL": str(model)}
    return {**kept, **own}


def test_there_is_a_notebook_for_each_thing_that_people_do() -> None:
    assert {path.stem for path in NOTEBOOKS} == {
        "chat_and_streaming",
        "first_classification",
        "folder_job_and_report",
        "tuning_a_preset",
        "turbomind_on_a_gpu",
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_a_few_short_cells_for_any_python_3(path: Path) -> None:
    notebook = read(path)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.cells[0].source.startswith("# ")
    assert len(code_of(notebook)) <= 16
    for cell in code_of(notebook):
        ast.parse(cell.source)
        assert len(cell.source.splitlines()) <= 25


@pytest.mark.parametrize("path", HERE, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    assert [cell.id for cell in code_of(read(path)) if cell.outputs or cell.execution_count is not None] == []


@pytest.mark.parametrize("path", HERE, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom_in_a_fresh_kernel(
    path: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    notebook = read(path)
    client = nbclient.NotebookClient(notebook, timeout=180, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=environment)
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    assert all(cell.execution_count for cell in code_of(notebook))
    assert [output for output in outputs if output.output_type == "error"] == []
    # Bars are widgets, so there is nothing that standard error is for.
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    assert any("text/html" in output.get("data", {}) for output in outputs)
    assert list(tmp_path.iterdir()) == []


def test_the_notebook_of_the_gpu_is_kept_as_it_ran_there() -> None:
    notebook = read(ON_A_GPU)
    cells = code_of(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert [cell.id for cell in cells if not cell.outputs] == []
    outputs = [output for cell in cells for output in cell.outputs]
    assert [output.evalue for output in outputs if output.output_type == "error"] == []
    (gpu, *_) = notebook.metadata.fastinfer.gpus
    assert gpu in json.dumps(outputs)
    assert "turbomind" in json.dumps(cells[-3].outputs).lower()


def test_a_notebook_that_is_kept_with_its_outputs_says_where_it_ran_and_names_no_path_of_the_machine(
    environment: dict[str, str], tmp_path: Path
) -> None:
    code = (
        "import pathlib, socket\n"
        "from IPython.display import HTML, display\n"
        "picture = 'data:image/png;base64,/9j/aa/bb+/cc/dd=='\n"
        "display(HTML(f'<p>/opt/models/tiny.gguf</p><img src=\"{picture}\">'))\n"
        "print(pathlib.Path.home() / 'models/a.gguf', socket.gethostname(), 'tokens/s', 'https://example.org/a/b')\n"
    )
    given, kept = tmp_path / "given.ipynb", tmp_path / "kept.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]), given)
    script = ROOT / "benchmarks/notebook.py"
    done = subprocess.run(
        [sys.executable, str(script), str(given), "--out", str(kept)],
        capture_output=True, text=True, timeout=120, env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    notebook = read(kept)
    shown, printed = notebook.cells[0].outputs
    assert shown.data["text/html"] == ('<p>.../tiny.gguf</p><img src="data:image/png;base64,/9j/aa/bb+/cc/dd==">')
    assert printed.text == "~/models/a.gguf host tokens/s https://example.org/a/b\n"
    assert notebook.metadata.fastinfer.cores >= 1
    assert read(given).cells[0].outputs == []


SETUP = """
import itertools, time
from pathlib import Path
from PIL import Image
import fastinfer

samples = sorted(p for p in (Path(fastinfer.__file__).parent / "samples").iterdir() if p.suffix in (".png", ".jpg"))
clf = fastinfer.classifier(labels=[sample.stem.replace("-", " ") for sample in samples])
apart = fastinfer.classifier(labels=clf.labels, decode_in="processes", decode_workers=1, workers=1)
llm = fastinfer.llm()
folder = Path("pictures")
folder.mkdir()
for number in range(4000):
    Image.effect_noise((12, 12), 99).save(folder / f"{number:04}.png")

def answers():
    said = llm.chat("hello", temperature=0, max_tokens=12, seed=1).text
    return [[result.label for result in one.classify_many(samples)] for one in (clf, apart)], said

answers()
right = answers()
"""

INTERRUPTED = {
    "classify_many over images without end": """
for place, result in enumerate(clf.classify_many(itertools.cycle(samples), progress=True)):
    if place == 30:
        print("under way", flush=True)
""",
    "images that are read in another process": """
for place, result in enumerate(apart.classify_many(itertools.cycle(samples))):
    if place == 30:
        print("under way", flush=True)
""",
    "a stream that is waited for": """
print("under way", flush=True)
for piece in itertools.chain.from_iterable(llm.stream("hello", ignore_eos=True) for _ in itertools.count()):
    pass
""",
    "a stream between two of its pieces": """
for piece in llm.stream("hello", ignore_eos=True):
    print("under way", flush=True)
    time.sleep(60)
""",
    "a reply": """
print("under way", flush=True)
while True:
    llm.chat("hello", ignore_eos=True)
""",
    "many replies": """
print("under way", flush=True)
for reply in llm.chat_many(itertools.repeat("hello"), max_tokens=200, ignore_eos=True):
    pass
""",
    "a folder job": """
print("under way", flush=True)
fastinfer.run(folder, "results.jsonl", using=clf, progress=True)
""",
}

AFTERWARDS = """
assert answers() == right
patience = time.monotonic() + 10
while any(slot["is_processing"] for slot in llm.slots()):
    assert time.monotonic() < patience
    time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def kernel(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """One kernel with a classifier and a chat model for all tests below."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(
        kernel_name="python3", env=environment, cwd=str(tmp_path_factory.mktemp("cells"))
    )
    try:
        made = Kernel(manager, client)
        made.run(SETUP)
        yield made
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing there")
@pytest.mark.parametrize("code", INTERRUPTED.values(), ids=INTERRUPTED)
def test_ctrl_c_ends_the_cell_at_once_and_leaves_the_engine_usable(code: str, kernel: Kernel) -> None:
    assert UNDER_WAY in code
    name, seconds = kernel.interrupt(code)
    assert name == "KeyboardInterrupt"
    assert seconds < 5
    kernel.run(AFTERWARDS)


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing there")
def test_a_job_that_was_interrupted_goes_on_in_the_next_cell(kernel: Kernel) -> None:
    (said,) = kernel.run(
        'job = fastinfer.run(folder, "results.jsonl", using=clf, limit=40)\n'
        "print(job.total, job.errors, len(list(job.results())))"
    )
    assert said["text"] == "40 0 40\n"


@pytest.mark.parametrize(
    "code",
    [
        "for _ in clf.classify_many(samples, progress=True): pass",
        'for _ in llm.chat_many(["hello"] * 3, progress=True, max_tokens=3): pass',
        '_ = fastinfer.run(samples[:3], "bar.jsonl", using=clf, progress=True)',
    ],
    ids=["classify_many", "chat_many", "run"],
)
def test_progress_is_a_widget(code: str, kernel: Kernel) -> None:
    outputs = kernel.run(code)
    assert len([output for output in outputs if WIDGET in output.get("data", {})]) == 1
    assert [output for output in outputs if output["type"] == "stream"] == []


def test_a_notebook_is_known_as_one_which_decides_where_turbomind_runs(kernel: Kernel) -> None:
    from fastinfer.engines.isolated.policy import in_notebook

    (said,) = kernel.run("from fastinfer.engines.isolated.policy import in_notebook\nprint(in_notebook())")
    assert "True" in str(said)
    assert not in_notebook()
