"""A native build of llama.cpp: its seconds, the wheel's size, and what the installed wheel says of itself.

python benchmarks/native_build.py bench-cuda-h100     # any preset of CMakePresets.json; needs what that preset needs
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from common import ROOT, save

PROBE = """
import importlib.metadata, json, llama_cpp
print(json.dumps({
    "version": importlib.metadata.version("llama-cpp-python"),
    "gpu_offload": llama_cpp.llama_supports_gpu_offload(),
    "features": llama_cpp.llama_print_system_info().decode(),
}))
"""


def output(*command: str | Path, **variables: str) -> str:
    environ = {**os.environ, **variables}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout


def compilers(tree: Path) -> dict[str, str]:
    """The line with the version, of each compiler that the build tree names."""
    found = {}
    for language, path in re.findall(r"^CMAKE_(\w+)_COMPILER:\w+=(.+)$", (tree / "CMakeCache.txt").read_text(), re.M):
        lines = output(path, "--version").splitlines()
        found[language] = next((line for line in lines if "release" in line), lines[0])
    return found


def measure(preset: str, site: Path) -> dict[str, object]:
    """Build a preset, install its wheel alone into ``site`` and ask it."""
    started = time.perf_counter()
    done = subprocess.run(["cmake", "--workflow", "--preset", preset], cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    seconds = time.perf_counter() - started
    wheel = max((ROOT / "dist").glob("llama_cpp_python-*.whl"), key=lambda path: path.stat().st_mtime)
    with zipfile.ZipFile(wheel) as content:
        libraries = {Path(i.filename).name: i.file_size for i in content.infolist() if "/lib/" in i.filename}

    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target")
    output(*pip, site, wheel)
    sys.path.append(str(site))  # where save() looks the version up
    server = ROOT / "build" / preset / "bin/llama-server"
    return {
        "seconds": round(seconds, 1),
        "wheel": {"name": wheel.name, "bytes": wheel.stat().st_size, "libraries": libraries},
        "compilers": compilers(ROOT / "build" / preset),
        "installed": json.loads(output(sys.executable, "-c", PROBE, PYTHONPATH=str(site))),
        "tools": sorted(path.name for path in server.parent.glob("llama-*")) if server.exists() else [],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset")
    parser.add_argument("--site", type=Path, help="a folder to keep the installed wheel in; default: a temporary one")
    parser.add_argument("--out", type=Path, help="default: results/native_PRESET.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options.preset, options.site or Path(folder))
        # While the wheel is there, whose version is looked up.
        command = f"python benchmarks/native_build.py {options.preset}"
        save(f"native_{options.preset.replace('-', '_')}", command, figures, options.out)


if __name__ == "__main__":
    main()
