"""The Hugging Face hub: does it answer, and does it take the token that is set up."""

from __future__ import annotations

import importlib
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastinfer.machine.checks.check import Check

__all__ = ["HubReading", "judge", "read"]

_AREA: Final = "hub"
_PATIENCE: Final = 5.0
_SHOWN: Final = 200  # characters of an error
_PROXIES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
_CREDENTIALS: Final = re.compile(r"(?<=//)\S*@|(?<!\S)(?!\S*//)\S*@")


@dataclass(frozen=True, slots=True)
class HubReading:
    """What the hub answered; nothing in here is secret.

    Attributes:
        endpoint: its address.
        offline: HF_HUB_OFFLINE is set.
        asked: it was asked.
        status: HTTP's status of its answer; None where there was none.
        problem: why there was none, or empty.
        seconds: that it took.
        token: there is an access token.
        proxies: environment variables that name a proxy, with what they name.
    """

    endpoint: str
    offline: bool
    asked: bool
    status: int | None
    problem: str
    seconds: float
    token: bool
    proxies: Mapping[str, str]


def read(*, network: bool = True, seconds: float = _PATIENCE) -> HubReading:
    """Ask the hub as a download would ask it: by the same HTTP client, with the same token and through the same proxy.

    Args:
        network: ask it; else only what is set up here is read.
        seconds: how long it may take.
    """
    from huggingface_hub import constants, get_token

    endpoint, offline, token = constants.ENDPOINT, bool(constants.HF_HUB_OFFLINE), get_token() is not None
    named = {name: os.environ.get(name) or os.environ.get(name.lower(), "") for name in _PROXIES}
    proxies = {name: _without_credentials(value) for name, value in named.items() if value}
    asked = network and not offline
    begun = time.monotonic()
    status, problem = _answer(f"{endpoint}/api/models?limit=1", seconds) if asked else (None, "")
    spent = time.monotonic() - begun
    return HubReading(_without_credentials(endpoint), offline, asked, status, problem, spent, token, proxies)


def judge(reading: HubReading) -> Iterator[Check]:
    """The rows on the hub."""
    yield _reachable(reading)
    found = "there is one" if reading.token else "none"
    if reading.asked and reading.token and reading.status in (401, 403):
        meaning = f"The hub refuses it (HTTP {reading.status}), and with it every download, also of public models."
        yield Check(_AREA, "access token", "fail", found, meaning, "hf auth login")
    else:
        meaning = "It is sent with every request." if reading.token else "Public models need none; gated ones do."
        yield Check(_AREA, "access token", "ok", found, meaning)
    said = ", ".join(f"{name}={value}" for name, value in reading.proxies.items()) or "none"
    yield Check(
        _AREA,
        "proxy",
        "ok",
        said,
        "From the environment; downloads go through it." if said != "none" else "Downloads go to the hub directly.",
    )


def _reachable(reading: HubReading) -> Check:
    name, where, status = "hub", reading.endpoint, reading.status
    if reading.offline:
        return Check(_AREA, name, "ok", "offline by choice", "HF_HUB_OFFLINE is set: models come from the cache alone.")
    if not reading.asked:
        return Check(_AREA, name, "ok", f"{where}, not asked", "The check without the network was asked for.")
    if status is None:
        meaning = (
            f"{reading.problem}. Models in the cache and in packages work. Check the network, HF_ENDPOINT and the "
        )
        meaning += "proxy; to stop asking for it, set it offline."
        return Check(_AREA, name, "warn", f"{where} cannot be reached", meaning, "export HF_HUB_OFFLINE=1")
    found = f"{where} answers in {reading.seconds:.1f} s"
    if status >= 500 or status in (408, 429):
        meaning = f"It answers with a fault or asks to wait (HTTP {status}); models in the cache work. Try again later."
        return Check(_AREA, name, "warn", found, meaning, "export HF_HUB_OFFLINE=1")
    if status in (401, 403) and not reading.token:
        meaning = f"It wants an access token (HTTP {status})."
        return Check(_AREA, name, "warn", found, meaning, "hf auth login")
    return Check(_AREA, name, "ok", found, "Models can be fetched by name.")


def _answer(address: str, seconds: float) -> tuple[int | None, str]:
    """HTTP's status, or None and why there is none; within the time whatever the network does."""
    answers: list[tuple[int | None, str]] = []
    # The client limits each wait for the network by itself, but neither the look-up of the address nor their sum. What
    # is still waiting then ends with the process.
    thread = threading.Thread(target=lambda: answers.append(_ask(address, seconds)), daemon=True)
    thread.start()
    thread.join(seconds + 0.5)
    return answers[0] if answers else (None, f"No answer after {seconds:g} seconds")


def _ask(address: str, seconds: float) -> tuple[int | None, str]:
    utilities: Any = importlib.import_module("huggingface_hub.utils")
    session = utilities.get_session()
    try:
        response = session.head(address, headers=utilities.build_hf_headers(), timeout=seconds)
    except _errors_of(session) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
        return None, _without_credentials(said)[:_SHOWN]
    return int(response.status_code), ""


def _errors_of(session: object) -> tuple[type[Exception], ...]:
    """What an HTTP client raises: requests derives all of it from OSError, httpx and its successors do not."""
    libraries = [sys.modules[kind.__module__.partition(".")[0]] for kind in type(session).__mro__]
    own = {getattr(library, name, OSError) for library in libraries for name in ("HTTPError", "InvalidURL")}
    return (OSError, ValueError, *own)


def _without_credentials(text: str) -> str:
    """A text without the names and passwords of the addresses in it."""
    return _CREDENTIALS.sub("", text)
