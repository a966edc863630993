"""Every query of the dashboard and every rule, put to a real Prometheus that scrapes engines at work.

Grafana itself is not run. Queries about a GPU's memory have an answer only where an engine runs on a GPU, and here none
does: they must be understood, and come back empty.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

import fastinfer

pytest.importorskip("prometheus_client", reason="needs the extra metrics")

ROOT = Path(__file__).resolve().parents[2]
OBSERVABILITY = ROOT / "observability"
DASHBOARD = json.loads((OBSERVABILITY / "grafana/dashboard.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = {
    f"{panel['title']}: {target['legendFormat'] or target['refId']}": target["expr"]
    for panel in PANELS
    for target in panel["targets"]
}
OF_A_GPU = {name: query for name, query in QUERIES.items() if "fastinfer:gpu_memory" in query}
#: What Grafana puts in the place of its variables, where two aliases are chosen.
VARIABLES = {"$alias": "(looker|talker)", "$__rate_interval": "10s"}


def installed(program: str) -> str | None:
    """A program of Debian's package prometheus: where the environment says, where make unpacks it, or on the path."""
    folders = [ROOT / ".venv/prometheus/usr/bin"]
    if named := os.environ.get("FASTINFER_PROMETHEUS"):
        folders.insert(0, Path(named).parent)
    found = (str(folder / program) for folder in folders if (folder / program).is_file())
    return next(found, None) or shutil.which(program)


def asked(address: str, path: str, **parameters: str) -> Any:
    """What Prometheus answers."""
    url = f"{address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)["data"]


def put(address: str, query: str) -> list[float]:
    """The values that a query of the dashboard gets now."""
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    assert "$" not in query
    return [float(series["value"][1]) for series in asked(address, "query", query=query)["result"]]


@pytest.fixture(scope="module")
def at_work(open_chat: Callable[..., Any], pictures: list[Any]) -> Iterator[str]:
    """Where a classifier and a chat model are told of that are kept busy; one picture in seven is broken."""
    stop = threading.Event()
    conversations = (f"What is the name of {i}?" for i in cycle(range(8)))

    def paced(items: Any) -> Iterator[Any]:
        for item in items:
            if stop.wait(0.05):
                return
            yield item

    with (
        fastinfer.serve_metrics(0) as server,
        fastinfer.classifier(labels=["a", "b"], workers=1, n_threads=1, alias="looker") as classifier,
        open_chat(alias="talker") as chat,
    ):
        images = paced(cycle([*pictures, b"no image"]))
        replies = chat.chat_many(paced(conversations), max_tokens=12, ignore_eos=True)
        work = [
            threading.Thread(target=list, args=(stream,))
            for stream in (classifier.classify_many(images, errors="return"), replies)
        ]
        for thread in work:
            thread.start()
        yield f"{server.host}:{server.port}"
        stop.set()
        for thread in work:
            thread.join()


@pytest.fixture(scope="module")
def prometheus(at_work: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus with the repository's configuration, but for what it scrapes and how often."""
    program = installed("prometheus")
    if program is None:
        pytest.skip("no Prometheus: install Debian's package prometheus, or set FASTINFER_PROMETHEUS to the program")
    folder = tmp_path_factory.mktemp("prometheus")
    settings = (OBSERVABILITY / "prometheus.yml").read_text("utf-8")
    changes = {
        "host.docker.internal:9400": at_work,
        "_interval: 5s": "_interval: 1s",
        "_interval: 15s": "_interval: 1s",
    }
    for written, here in changes.items():
        assert written in settings
        settings = settings.replace(written, here)
    (folder / "prometheus.yml").write_text(settings, "utf-8")
    shutil.copy(OBSERVABILITY / "rules.yml", folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for_rates(address, process, folder / "log")
            yield address
        finally:
            process.terminate()


def wait_for_rates(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until there is enough for a rate over every engine's work."""
    both = 'rate(fastinfer:images_total[10s]) > 0 and on () rate(fastinfer:requests_total{outcome="finished"}[10s]) > 0'
    end = time.monotonic() + 20
    while True:
        try:
            if put(address, both):
                return
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


@pytest.mark.parametrize("name", [name for name in QUERIES if name not in OF_A_GPU])
def test_every_query_of_the_dashboard_gets_data(prometheus: str, name: str):
    values = put(prometheus, QUERIES[name])
    assert any(math.isfinite(value) for value in values), values


@pytest.mark.parametrize("name", OF_A_GPU)
def test_a_query_about_a_gpu_is_understood_and_empty_without_one(prometheus: str, name: str):
    assert put(prometheus, QUERIES[name]) == []


def test_the_choice_of_an_alias_has_all_of_them(prometheus: str):
    [alias] = [v for v in DASHBOARD["templating"]["list"] if v["name"] == "alias"]
    metric = alias["query"]["query"].removeprefix("label_values(").removesuffix(", alias)")
    assert set(asked(prometheus, "label/alias/values", **{"match[]": metric})) >= {"looker", "talker"}


def test_every_rule_is_evaluated_without_an_error_and_nothing_is_wrong_with_healthy_engines(prometheus: str):
    end = time.monotonic() + 5
    rules = []
    while not rules or any(rule["health"] == "unknown" for rule in rules):
        assert time.monotonic() < end
        rules = [rule for group in asked(prometheus, "rules")["groups"] for rule in group["rules"]]
    assert len(rules) >= 6
    assert {rule["health"] for rule in rules} == {"ok"}
    # One picture in seven is broken, which is what this one is for.
    assert {rule["name"] for rule in rules if rule["state"] != "inactive"} <= {"FastinferErrors"}


def test_the_configuration_passes_promtool():
    program = installed("promtool")
    if program is None:
        pytest.skip("no promtool: it is in Debian's package prometheus")
    done = subprocess.run(
        [program, "check", "config", str(OBSERVABILITY / "prometheus.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_is_complete():
    assert len(QUERIES) == sum(len(panel["targets"]) for panel in PANELS), "two queries share a name"
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    sources = [panel["datasource"] for panel in PANELS] + [t["datasource"] for p in PANELS for t in p["targets"]]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert all(panel["description"] for panel in PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(x + place["x"], y + place["y"]) for x in range(place["w"]) for y in range(place["h"])}
        assert not taken & cells, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells


def test_every_metric_of_an_engine_is_on_the_dashboard_or_said_not_to_be():
    from fastinfer.watching.families import CHAT, ENGINE, GPU, IMAGES, LLAMA_SERVER

    #: Averages since the beginning, and what others on the dashboard say as well.
    left_out = {
        "llamacpp:prompt_seconds_total", "llamacpp:tokens_predicted_seconds_total", "llamacpp:n_decode_total",
        "llamacpp:n_tokens_max", "llamacpp:prompt_tokens_seconds", "llamacpp:predicted_tokens_seconds",
        "llamacpp:kv_cache_usage_ratio",
    }  # fmt: skip
    shown = " ".join(QUERIES.values())
    told = {family.name for table in (CHAT, ENGINE, GPU, IMAGES, LLAMA_SERVER) for family in table.values()}
    assert {name for name in told if name not in shown} == left_out
