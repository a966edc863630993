"""Opens contenders, gives them the same work, keeps the result file."""

from __future__ import annotations

import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastinfer

from ..chat.child import Child
from ..chat.figures import Figures, save
from ..common import spread
from .bound import bound, head_size, open_matrix_product, read_config
from .labels import TEN
from .ours import open_ours
from .pictures import photographs
from .pipeline import documented, open_pipeline
from .server import open_server
from .variants import variant
from .work import Done, Work

OURS, EXACT, EMBEDDED = "ours", "ours_exact", "ours_embedded"
ENGINE = "engine"
DOCUMENTED, DEFAULTS, SERVER = "documented", "defaults", "server"
#: In the order in which they are loaded: a cache is a share of what memory is free then, and the defaults take most.
CONTENDERS = (OURS, EXACT, EMBEDDED, DOCUMENTED, SERVER, DEFAULTS)
_ORIGINALS = 256
_VISION_BATCH = 32


@dataclass
class Bench:
    """The settings of this run of the benchmark, and its result file.

    Attributes:
        model: folder of the checkpoint in Hugging Face's form.
        shape: its published name, or tiny; decides the aims.
        trained: folder of a checkpoint whose answers mean something, or None.
        wanted: the contenders to measure.
        rounds: how often.
        images: pictures a round for ours.
        peer_images: pictures a round for the peers, which take longer for each.
        limit: seconds that a start, or a workload, may take.
        on_gpu: whether there is a GPU.
        out: the result file.
        content: what is in it.
    """

    model: Path
    shape: str
    trained: Path | None
    wanted: Sequence[str]
    rounds: int
    images: int
    peer_images: int
    limit: float
    on_gpu: bool
    out: Path
    content: dict[str, Any]
    _originals: list[bytes] = field(default_factory=list)
    _next: int = 0
    _order: random.Random = field(default_factory=lambda: random.Random(1))

    def pictures(self, count: int) -> list[bytes]:
        """JPEG files that no contender has seen."""
        originals = self._made()
        places = range(self._next, self._next + count)
        self._next += count
        return [variant(originals[place % _ORIGINALS], place // _ORIGINALS) for place in places]

    def stream(self, count: int) -> Work:
        """As many, which the contender makes on its way out of a few: a long stream fits no memory."""
        first = -(-self._next // _ORIGINALS)
        self._next = (first - (-count // _ORIGINALS)) * _ORIGINALS
        return Work(self._made(), total=count, first=first)

    def _made(self) -> list[bytes]:
        if not self._originals:
            self._originals = photographs(_ORIGINALS)
        return self._originals

    def ours(
        self,
        preset: str = "prod",
        model: Path | None = None,
        labels: Sequence[str] = TEN,
        **changes: Any,
    ) -> Child:
        """fastinfer with a preset; the embedded one has its own model."""
        folder = None if preset == "embedded" else str(model or self.model)
        options = {"preset": preset, "model": folder, "labels": tuple(labels), "changes": changes}
        return Child(open_ours, options, self.limit)

    def openers(self) -> dict[str, Callable[[], Child]]:
        """How to open each of the wanted contenders, in the order in which to."""
        peer: dict[str, Any] = {"model": str(self.model), "prompt": self.prompt(TEN)}
        flags = documented(head_size(read_config(self.model)))
        log = str(self.out.with_suffix(".server.log"))
        with_flags = {**peer, "engine": flags, "vision_batch": _VISION_BATCH}
        found: dict[str, Callable[[], Child]] = {
            OURS: self.ours,
            EXACT: lambda: self.ours("prod-exact"),
            EMBEDDED: lambda: self.ours("embedded"),
            DOCUMENTED: lambda: Child(open_pipeline, with_flags, self.limit),
            SERVER: lambda: Child(open_server, {**with_flags, "log": log, "limit": self.limit}, self.limit),
            DEFAULTS: lambda: Child(open_pipeline, {**peer, "engine": {}, "vision_batch": None}, self.limit),
        }
        return {name: found[name] for name in CONTENDERS if name in self.wanted}

    @property
    def preset(self) -> str:
        """The preset of parts that measure ours alone; the embedded one shows on any CPU that they run."""
        return "embedded" if list(self.wanted) == [EMBEDDED] else "prod"

    @staticmethod
    def prompt(labels: Sequence[str]) -> str:
        """The preset's question with these labels, for all contenders."""
        question = str(fastinfer.preset("prod", kind="classify").prompt)
        return question.replace("{labels}", ", ".join(labels))

    @contextmanager
    def open(self, openers: dict[str, Callable[[], Child]]) -> Iterator[dict[str, Child]]:
        """The contenders, opened one after another and warmed up before the next; closed at the end.

        One that cannot be opened is noted in the result file, and the others are measured.
        """
        with ExitStack() as stack:
            sides: dict[str, Child] = {}
            for name, opener in openers.items():
                begun = time.perf_counter()
                try:
                    side = opener()
                    stack.callback(side.close)
                    # Also takes the memory that is only taken with the first pictures, before the next is loaded.
                    side.ask(Work(self.pictures(64)))
                except RuntimeError:
                    self.note_error(name, traceback.format_exc())
                    continue
                self.content.setdefault("contenders", {}).setdefault(name, side.info)
                print(f"  {name} is ready after {time.perf_counter() - begun:.1f} s", file=sys.stderr, flush=True)
                sides[name] = side
            if not sides:
                raise SystemExit("No contender could be opened; the result file says why.")
            yield sides

    def ask(self, name: str, side: Child, work: Work) -> Done | None:
        """Give a contender work; None if its process did not survive. What went wrong is kept in the result file."""
        try:
            done: Done = side.ask(work)
        except (RuntimeError, OSError) as error:
            self.note_error(name, str(error))
            return None
        for error_line in sorted(set(done.errors))[:5]:
            self.note_error(name, error_line)
        return done

    def in_turn(self, sides: dict[str, Child]) -> list[tuple[str, Child]]:
        """The contenders in this round's order, so that none always comes first."""
        order = list(sides.items())
        self._order.shuffle(order)
        return order

    def note_error(self, name: str, text: str) -> None:
        """Keep what went wrong, on the terminal and in the result file."""
        print(f"  {name}: {text}", file=sys.stderr, flush=True)
        self.content.setdefault("errors", {}).setdefault(name, []).append(text[-2000:])
        save(self.out, self.content)

    def rate_of_gpu(self) -> float | None:
        """bf16 matrix products in TFLOP/s, measured before the contenders are opened; None without a GPU."""
        if not self.on_gpu:
            return None
        side = Child(open_matrix_product, {"rounds": 20}, self.limit)
        side.close()
        self.content["matrix_product"] = side.info
        return float(side.info["tflops"])

    def bound(self, tflops: float | None, prompt_tokens: float) -> dict[str, Any] | None:
        """What arithmetic allows, or None without a GPU."""
        return None if tflops is None else bound(read_config(self.model), prompt_tokens, tflops)

    def keep(self, figures: dict[str, Any]) -> None:
        """Put the figures so far into the result file."""
        self.content |= figures
        save(self.out, self.content)


def summary(done: Done) -> Figures:
    """What one contender did in a round."""
    return {
        "images_per_second": round(done.images_per_second, 2),
        "seconds": round(done.seconds, 3),
        "images": done.images,
        "failed": len(done.errors),
        "prompt_tokens": done.prompt_tokens,
        "generated_tokens": round(done.generated_tokens, 2),
    }


def within_rounds(rounds: Sequence[dict[str, Figures]], over: str, under: str, figure: str) -> dict[str, float] | None:
    """One contender's figure over another's, taken within each round; None if no round has both."""
    pairs = [(one.get(over, {}).get(figure), one.get(under, {}).get(figure)) for one in rounds]
    values = [a / b for a, b in pairs if a is not None and b]
    return spread(values) if values else None


def aim(what: str, wanted: float, measured: float | None, *, at_most: bool = False) -> dict[str, Any]:
    """An aim beside what was measured; ``ratio`` above 1 is better than the aim."""
    sign = "<=" if at_most else ">="
    found: dict[str, Any] = {"what": what, "aim": f"{sign} {wanted:g}", "measured": measured}
    if measured:
        found["ratio"] = round(wanted / measured if at_most else measured / wanted, 3)
    if measured is not None:
        found["reached"] = measured <= wanted if at_most else measured >= wanted
    return found
