"""Watching engines at work: their names, what they have done, and a page of it for Prometheus.

``roll`` keeps the engines of this process by alias, ``families`` what is told of them, ``collector`` makes
prometheus_client's objects of it, and ``server`` serves them.
"""

from __future__ import annotations

from fastinfer.watching.collector import Collector
from fastinfer.watching.server import MetricsServer, serve_metrics

__all__ = ["Collector", "MetricsServer", "serve_metrics"]
