"""Nothing in the sources runs what a file says: no pickles, no code in texts, but for the few places named here."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1] / "src" / "fastinfer"

#: Modules whose files and bytes can be programs.
MODULES = frozenset(
    (
        *("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "jsonpickle", "shelve", "marshal"),
        *("joblib", "yaml", "runpy", "imp", "code"),
    )
)
#: Functions that run a text, or load what may be a program.
FUNCTIONS = frozenset(
    ("eval", "exec", "compile", "__import__", "import_module", "exec_module", "read_pickle", "Unpickler", "os.system")
)
#: Of all that is called ``load`` or ``loads``, what reads plain values alone, or is a method of ours or of Pillow's.
PLAIN = frozenset(("json.load", "json.loads", "orjson.loads", "tomllib.loads", "re.compile", "image.load"))
OURS = frozenset(("Calibration.load", "self._decoder.load", "self._job.load", "self._stages.decoder.load"))

#: ``FILE: NAME``, and why it does no harm.
ALLOWED = {
    "images/processes/child.py: pickle.load": "the Decoder of the process that started this one, over its own pipe",
    "images/processes/child.py: import pickle": "likewise; images and pixels go as bytes (wire.py)",
    "images/processes/pool.py: import pickle": "writes that Decoder",
    "engines/isolated/child.py: pickle.loads": "the Opener of the process that started this one, over its own socket",
    "engines/isolated/child.py: import_module": "names of libraries from tables in the source",
    "engines/isolated/child.py: import pickle": "likewise; what comes back is JSON and bytes (messages.py)",
    "engines/isolated/opener.py: import_module": "an engine of ours, named by the parent process",
    "engines/isolated/supervisor.py: import pickle": "writes that Opener",
    "__init__.py: import_module": "public names, from a table in the source",
    "engines/turbomind/importing.py: importlib.import_module": "a module of LMDeploy, by name",
    "images/formats.py: importlib.import_module": "Pillow's readers, from a table in the source",
    "machine/checks/child.py: importlib.import_module": "a check of ours, named by the parent process",
    "models/embedded_chat.py: import_module": "the package with the chat model, by name",
    "optional.py: import_module": "libraries of the extras, by names in the source",
}


def found() -> set[str]:
    places = set()
    for file in sorted(SOURCES.rglob("*.py")):
        place = file.relative_to(SOURCES).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            places |= {f"{place}: {what}" for what in looked_at(node)}
    return places


def looked_at(node: ast.AST) -> list[str]:
    """What may run foreign code at this place."""
    if isinstance(node, ast.Import):
        return [f"import {alias.name}" for alias in node.names if alias.name.partition(".")[0] in MODULES]
    if isinstance(node, ast.ImportFrom):
        return [f"from {node.module}"] if (node.module or "").partition(".")[0] in MODULES else []
    if not isinstance(node, ast.Call):
        return []
    name = ast.unparse(node.func)
    if name.endswith("import_module") and node.args and isinstance(node.args[0], ast.Constant):
        return []  # a name that stands in the source
    last = name.rpartition(".")[2]
    options = [word.arg for word in node.keywords if word.arg in ("allow_pickle", "shell", "weights_only")]
    risky = name in FUNCTIONS or last in FUNCTIONS - {"compile"} or last in ("load", "loads")
    return [name] if (risky and name not in PLAIN | OURS) or options else []


def test_nothing_from_elsewhere_is_unpickled_or_run() -> None:
    places = found()
    assert places - ALLOWED.keys() == set(), "explain why it does no harm, or do it in another way"
    assert ALLOWED.keys() - places == set(), "no longer there"


def test_the_search_finds_what_it_is_for() -> None:
    for text, name in {
        "import pickle": "import pickle",
        "from yaml import safe_load": "from yaml",
        "torch.load(file)": "torch.load",
        "numpy.load(file, allow_pickle=True)": "numpy.load",
        "joblib.load(file)": "joblib.load",
        "eval(text)": "eval",
        "exec(compile(text, '', 'exec'))": "exec",
        "builtins.eval(text)": "builtins.eval",
        "subprocess.run(text, shell=True)": "subprocess.run",
        "marshal.loads(data)": "marshal.loads",
        "pandas.read_pickle(file)": "pandas.read_pickle",
    }.items():
        assert name in [what for node in ast.walk(ast.parse(text)) for what in looked_at(node)], text
