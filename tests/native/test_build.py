"""A wheel is built for this machine's processor, and the embedded model answers with it."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "src"
CLASSIFY = """
import importlib.metadata, json, llama_cpp, fastinfer
from importlib.resources import files
picture = files("fastinfer") / "samples" / "key.png"
print(json.dumps({
    "file": llama_cpp.__file__,
    "version": importlib.metadata.version("llama-cpp-python"),
    "label": fastinfer.classifier(labels=["fish", "key"]).classify(picture.read_bytes()).label,
}))
"""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_wheel_of_the_cpu_preset_classifies_in_a_fresh_environment(cmake, checkout, tmp_path):
    done = cmake("--workflow", "--preset", "cpu", timeout=3500)
    if "pip could not fetch" in done.stderr:
        pytest.skip("the sources are not to be had without a network")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    (wheel,) = (checkout / "dist").glob("*.whl")
    assert wheel.name.startswith("llama_cpp_python-0.3.36+cpu-py3-none-")
    with zipfile.ZipFile(wheel) as content:
        libraries = sorted(Path(name).stem for name in content.namelist() if "/lib/lib" in name)
    assert libraries == ["libggml", "libggml-base", "libggml-cpu", "libllama", "libmtmd"]

    # What the wheel depends on comes from the environment of the tests, the wheel's own package from the fresh one.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "fresh"], check=True)
    (site,) = (tmp_path / "fresh").glob("**/site-packages")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*pip, str(wheel)], check=True)
    (site / "tests.pth").write_text(f"{sysconfig.get_path('purelib')}\n{SOURCES}\n", "utf-8")
    (python,) = (tmp_path / "fresh").glob("**/python")
    answer = subprocess.run([python, "-c", CLASSIFY], capture_output=True, text=True, check=True, cwd=tmp_path)
    found = json.loads(answer.stdout)
    assert Path(found["file"]).is_relative_to(site)
    assert (found["version"], found["label"]) == ("0.3.36+cpu", "key")
