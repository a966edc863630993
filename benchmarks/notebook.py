"""A notebook executed from a fresh kernel and kept with its outputs, as notebooks/turbomind_on_a_gpu.ipynb is.

python benchmarks/notebook.py notebooks/turbomind_on_a_gpu.ipynb --out notebooks/turbomind_on_a_gpu.ipynb

Paths and the name of the machine are taken out of the outputs. What it ran on is in the notebook's metadata, under
"fastinfer". A cell that fails ends it, and nothing is written.
"""

from __future__ import annotations

import argparse
import re
import socket
from pathlib import Path
from typing import Any, Final

import nbclient
import nbformat

from fastinfer.measuring import Environment

#: A picture inside HTML, which stays; else an absolute path and its last part, which tags, addresses and "tokens/s" are
#: none of.
_PATH: Final = re.compile(r"""data:[^"')\s]+|(?<![\w<./:~-])/(?:[^\s/<>"'&:,;()[\]]+/)+([^\s/<>"'&:,;()[\]]*)""")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--timeout", type=int, default=600, help="seconds that a cell may take")
    arguments = parser.parse_args()
    notebook = nbformat.read(arguments.notebook, as_version=4)
    # Times of the clock would make every run another file.
    client = nbclient.NotebookClient(
        notebook, timeout=arguments.timeout, kernel_name="python3", record_timing=False, store_widget_state=False
    )
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [nbformat.from_dict(without_machine(output)) for output in cell.outputs]
    notebook.metadata["fastinfer"] = Environment.here().to_dict()
    nbformat.validate(notebook)
    nbformat.write(notebook, arguments.out)


def without_machine(output: Any) -> Any:
    """An output, or a part of it, without the machine's paths and name; pictures stay as they are."""
    if isinstance(output, dict):
        return {key: value if key.startswith("image/") else without_machine(value) for key, value in output.items()}
    if isinstance(output, list):
        return [without_machine(value) for value in output]
    if not isinstance(output, str):
        return output
    return re.sub(rf"(?<![\w-]){re.escape(socket.gethostname())}(?![\w-])", "host", _PATH.sub(_shorter, output))


def _shorter(found: re.Match[str]) -> str:
    path, name = found[0], found[1]
    if name is None:
        return path
    home = f"{Path.home()}/"
    return f"~/{path.removeprefix(home)}" if path.startswith(home) else f".../{name}"


if __name__ == "__main__":
    main()
