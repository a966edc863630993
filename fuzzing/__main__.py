"""``python -m fuzzing TARGET --seconds 600``: look for inputs of which something does not hold, guided by coverage."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from fuzzing.targets import NAMES, target

#: Mebibytes that a run may take: images of at most 250,000 pixels and files of some kilobytes need far less.
_MEMORY = 1024
_ALLOCATION = 256
_LONGEST_SECONDS = 25


def main() -> None:
    """Run one target until the time is over or an input fails; that input is written to the working directory."""
    words = argparse.ArgumentParser(prog="python -m fuzzing", description=__doc__)
    words.add_argument("target", choices=NAMES)
    words.add_argument("--seconds", type=int, default=600, help="how long (600)")
    words.add_argument("--keep", type=Path, help="a folder where inputs that reach new lines are kept between runs")
    words.add_argument("--largest", type=int, default=4096, help="most bytes of an input (4096)")
    asked = words.parse_args()
    try:
        import atheris
    except ImportError as error:
        raise SystemExit(f"atheris is not installed: {error}. pip install 'fastinfer[fuzz]'") from error

    with atheris.instrument_imports(include=["fastinfer", "PIL", "jinja2", "tomllib"]):
        chosen = target(asked.target)
    with tempfile.TemporaryDirectory(prefix="fuzzing-") as made:
        keep = asked.keep or Path(made, "new")
        keep.mkdir(parents=True, exist_ok=True)
        seeds = Path(made, "seeds")
        seeds.mkdir()
        for number, seed in enumerate(chosen.seeds() + chosen.corpus()):
            Path(seeds, str(number)).write_bytes(seed)
        words_file = Path(made, "words")
        words_file.write_text("".join(f'"{_escaped(word)}"\n' for word in chosen.words), encoding="ascii")
        options = [
            sys.argv[0],
            f"-max_total_time={asked.seconds}",
            f"-max_len={asked.largest}",
            f"-timeout={_LONGEST_SECONDS}",
            f"-rss_limit_mb={_MEMORY}",
            f"-malloc_limit_mb={_ALLOCATION}",
            f"-dict={words_file}",
            "-print_final_stats=1",
            str(keep),
            str(seeds),
        ]
        atheris.Setup(options, chosen.check)
        atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\x{byte:02X}" for byte in word)


if __name__ == "__main__":
    main()
