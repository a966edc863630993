"""From the engines of this process to prometheus_client's objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

from fastinfer._version import __version__
from fastinfer.classify.tally import ImageTally
from fastinfer.engines.tally import Histogram
from fastinfer.machine.memory import device_memory
from fastinfer.optional import require
from fastinfer.watching.families import CHAT, ENGINE, GPU, IMAGES, LLAMA_SERVER, NOTED_ERRORS, Family
from fastinfer.watching.roll import Kind, Tally, Watched, watched

__all__ = ["Collector"]

_CLASSES = {
    "counter": "CounterMetricFamily",
    "gauge": "GaugeMetricFamily",
    "histogram": "HistogramMetricFamily",
    "info": "InfoMetricFamily",
}


class Collector:
    """A prometheus_client collector of every engine in this process, open now or opened later.

    :func:`fastinfer.serve_metrics` has one; for a page of your own, register one with your registry:
    ``prometheus_client.REGISTRY.register(fastinfer.watching.Collector())``. Registering a second one there is refused.
    Serve such a page in the text format, as serve_metrics does: prometheus_client 0.26 replaces the colons in names by
    underscores in OpenMetrics, which a Prometheus asks for unless its ``scrape_protocols`` say otherwise.

    What engines have done is summed up by their alias for as long as the process lives, so that counters never fall;
    what is about now ends with the engine.

    Raises:
        FastInferError: prometheus_client is not installed.
    """

    def __init__(self) -> None:
        self._library = require("prometheus_client.core", extra="metrics", what="A page of metrics")

    def describe(self) -> Iterable[Any]:
        """The metrics without values: what a registry looks at for names that it has already."""
        return _Page(self._library).families()

    def collect(self) -> Iterable[Any]:
        """The metrics with their values now."""
        page = _Page(self._library)
        engines, sums = watched()
        for engine in engines:
            page.add_engine(engine)
        for (alias, kind), tally in sums.items():
            page.add_sums(alias, kind, tally)
        devices = {device for engine in engines for device in engine.provenance.device.split(", ")}
        for device in sorted(devices):
            page.add_memory(device)
        return page.families()


class _Page:
    """The metrics of one reading."""

    def __init__(self, library: Any) -> None:
        self._families: dict[str, Any] = {}
        #: By alias and class: a classifier and a chat model may have had the same alias, one after the other.
        self._errors: Counter[tuple[str, str]] = Counter()
        for table in (ENGINE, LLAMA_SERVER, CHAT, IMAGES, GPU):
            for family in table.values():
                # The library adds the ends of these names itself.
                name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
                name = name.removesuffix("_info")
                make = getattr(library, _CLASSES[family.kind])
                self._families[family.name] = make(
                    name, family.help, labels=() if family.kind == "info" else family.labels
                )

    def families(self) -> Iterable[Any]:
        for labels, count in self._errors.items():
            self._add(ENGINE["errors"], count, *labels)
        return self._families.values()

    def add_engine(self, engine: Watched) -> None:
        """What an open engine is, and what it does now."""
        ran = engine.provenance
        values = (
            engine.alias,
            engine.kind,
            ran.engine,
            ran.model,
            ran.preset,
            ran.fingerprint,
            ran.device,
            __version__,
        )
        self._families[ENGINE["info"].name].add_metric((), dict(zip(ENGINE["info"].labels, values, strict=True)))
        tally = engine.tally
        if isinstance(tally, ImageTally):
            self._add(IMAGES["waiting"], tally.waiting, engine.alias)
            self._add(IMAGES["in_work"], tally.decoding, engine.alias, "decoding")
            self._add(IMAGES["in_work"], tally.computing, engine.alias, "engine")
        chat = None if engine.chat is None else engine.chat()
        if chat is None:
            return
        for name, value in chat.metrics().items():
            if not _is_sum(name):
                self._add(LLAMA_SERVER[name], value, engine.alias)
        occupancy = chat.occupancy()
        self._add(CHAT["slots"], occupancy.slots, engine.alias)
        self._add(CHAT["cells"], occupancy.cells, engine.alias)
        self._add(CHAT["cells_used"], occupancy.cells_used, engine.alias)
        self._add(CHAT["cache_use"], occupancy.cells_used / occupancy.cells, engine.alias)

    def add_sums(self, alias: str, kind: Kind, tally: Tally) -> None:
        """What the engines of an alias have done since the process began."""
        if isinstance(tally, ImageTally):
            self._add(IMAGES["answered"], tally.answered, alias)
            self._add(IMAGES["cancelled"], tally.cancelled, alias)
            self._add_histograms(IMAGES, tally, alias)
        else:
            for name, value in tally.metrics(processing=0, deferred=0).items():
                if _is_sum(name):
                    self._add(LLAMA_SERVER[name], value, alias)
            for outcome in ("finished", "failed", "cancelled"):
                self._add(CHAT["requests"], getattr(tally, outcome), alias, outcome)
            self._add(CHAT["preempted"], tally.preempted, alias)
            self._add_histograms(CHAT, tally, alias)
        for error, count in {**dict.fromkeys(NOTED_ERRORS[kind], 0), **tally.errors.by_type()}.items():
            self._errors[alias, error] += count

    def add_memory(self, device: str) -> None:
        """How much of a GPU's memory is used; nothing where that is not to be seen."""
        memory = device_memory(device)
        if memory is not None:
            self._add(GPU["used"], memory.total - memory.free, device)
            self._add(GPU["total"], memory.total, device)

    def _add(self, family: Family, value: float, *labels: str) -> None:
        self._families[family.name].add_metric(labels, value)

    def _add_histograms(self, table: dict[str, Family], tally: Tally, alias: str) -> None:
        """The histograms of a table, which are named after the tally's fields."""
        for field, family in table.items():
            if family.kind == "histogram":
                histogram: Histogram = getattr(tally, field)
                bounds = [*map(str, histogram.bounds), "+Inf"]
                buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
                self._families[family.name].add_metric((alias,), buckets, sum_value=histogram.sum)


def _is_sum(name: str) -> bool:
    """Whether a value of llama-server's goes on over engines of one alias, or is about the engine that is open."""
    return LLAMA_SERVER[name].kind == "counter" or name == "llamacpp:n_tokens_max"
