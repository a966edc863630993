"""What a page of metrics says, read with prometheus_client's own parser."""

from __future__ import annotations

import pytest

__all__ = ["Page", "page", "read"]

#: The value of each series by its name and the values of its labels, those of the alias first.
Page = dict[tuple[str, ...], float]


def read(text: str) -> Page:
    """The values on a page in the classic text format."""
    parser = pytest.importorskip("prometheus_client.parser", reason="needs the extra metrics")
    samples = [sample for family in parser.text_string_to_metric_families(text) for sample in family.samples]
    assert len({(s.name, *sorted(s.labels.items())) for s in samples}) == len(samples), "a series comes twice"
    return {(s.name, *s.labels.values()): s.value for s in samples}


def page() -> Page:
    """What is told of the engines of this process now."""
    library = pytest.importorskip("prometheus_client", reason="needs the extra metrics")
    from fastinfer.watching import Collector

    registry = library.CollectorRegistry()
    registry.register(Collector())
    return read(library.generate_latest(registry).decode())
