"""The lines of a batch file, one at a time and each by itself: one that is wrong says why and harms no other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from fastinfer.replies.calls import BadCall, read_json

__all__ = ["ENDPOINT", "BatchLine", "read_lines"]

#: The only endpoint that is answered.
ENDPOINT = "/v1/chat/completions"
#: Longest line in bytes; OpenAI takes no file that is longer than this.
_LONGEST = 200_000_000
_KEYS = frozenset({"custom_id", "method", "url", "body"})
_BOM = b"\xef\xbb\xbf"
_ENDS = b"\r\n"
_BLANK = b" \t" + _ENDS


@dataclass(frozen=True, slots=True)
class BatchLine:
    """A line of a batch file: a request, or what is wrong with it.

    Attributes:
        number: its place in the file, from 1.
        custom_id: the caller's name for it; None where there is none that could be read.
        body: the request, or None where the line is wrong.
        code: what is wrong, as OpenAI names it: ``"invalid_json_line"``, ``"invalid_request"``, ``"url_mismatch"``
            or ``"duplicate_custom_id"``; "" for a request.
        message: what is wrong and what to do, with the line's number; "" for a request.
    """

    number: int
    custom_id: str | None = None
    body: Mapping[str, Any] | None = None
    code: str = ""
    message: str = ""


class _Wrong(Exception):  # noqa: N818 - control flow inside this module, never seen by users
    """A line is no request: OpenAI's code, what is wrong, and the line's id where it has one."""

    def __init__(self, code: str, what: str, custom_id: str | None = None) -> None:
        super().__init__(what)
        self.code, self.what, self.custom_id = code, what, custom_id


def read_lines(file: BinaryIO) -> Iterator[BatchLine]:
    """The lines of a file, each as it is read.

    Where OpenAI refuses a whole file, here the line alone is refused: one that is blank, not UTF-8, not JSON or begins
    with a byte order mark; one without a ``custom_id``, or with that of a line before it; one with another method or
    endpoint. Only a hash of 16 bytes is kept of each ``custom_id``.

    Args:
        file: opened for reading bytes.
    """
    seen: set[bytes] = set()
    number = 0
    while raw := file.readline(_LONGEST + 1):
        number += 1
        try:
            if len(raw) > _LONGEST:
                _skip_rest(file, raw)
                raise _Wrong("invalid_request", f"is longer than {_LONGEST:,} bytes. Split it, or send smaller images")
            value = _object(raw)
            custom_id = _custom_id(value)
            fingerprint = hashlib.blake2b(custom_id.encode(), digest_size=16).digest()
            if fingerprint in seen:
                what = f"has the custom_id {custom_id!r:.80} of a line before it. Give each line its own"
                raise _Wrong("duplicate_custom_id", what, custom_id)
            seen.add(fingerprint)
            yield BatchLine(number, custom_id, _body(value, custom_id))
        except _Wrong as wrong:
            yield BatchLine(number, wrong.custom_id, code=wrong.code, message=f"Line {number} {wrong.what}.")


def _skip_rest(file: BinaryIO, raw: bytes) -> None:
    while raw and not raw.endswith(b"\n"):
        raw = file.readline(_LONGEST)


def _object(raw: bytes) -> dict[str, Any]:
    if raw.startswith(_BOM):
        raise _Wrong("invalid_json_line", "begins with a byte order mark. Save the file as UTF-8 without one")
    if not raw.strip(_BLANK):
        raise _Wrong("invalid_json_line", "is blank. Remove it")
    try:
        value = read_json(raw.rstrip(_ENDS).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _Wrong("invalid_json_line", f"is not UTF-8 at byte {error.start}. Save the file as UTF-8") from error
    except BadCall as error:
        cause = error.__cause__
        why = f"{cause.msg} at character {cause.pos + 1}" if isinstance(cause, json.JSONDecodeError) else str(error)
        raise _Wrong("invalid_json_line", f"is not JSON: {why}. Write one JSON object a line") from error
    if not isinstance(value, dict):
        raise _Wrong("invalid_json_line", f"is JSON, but a {type(value).__name__}. Write one JSON object a line")
    return value


def _custom_id(value: Mapping[str, Any]) -> str:
    custom_id = value.get("custom_id")
    if custom_id is None:
        raise _Wrong("invalid_request", 'has no "custom_id". Give each line its own')
    if not isinstance(custom_id, str) or not custom_id:
        raise _Wrong("invalid_request", f"has the custom_id {custom_id!r:.80}. It has to be a text that is not empty")
    try:
        custom_id.encode()
    except UnicodeEncodeError as error:
        raise _Wrong("invalid_request", "has half a surrogate pair in its custom_id. Remove it") from error
    return custom_id


def _body(value: Mapping[str, Any], custom_id: str) -> Mapping[str, Any]:
    for key in value:
        if key not in _KEYS:
            what = f"has the unknown key {key!r:.80}. A request has {', '.join(sorted(_KEYS))}"
            raise _Wrong("invalid_request", what, custom_id)
    if value.get("method") != "POST":
        raise _Wrong("invalid_request", f"has the method {value.get('method')!r:.80}. Write POST", custom_id)
    if value.get("url") != ENDPOINT:
        what = f"has the url {value.get('url')!r:.80}. Only {ENDPOINT} is answered"
        raise _Wrong("url_mismatch", what, custom_id)
    body = value.get("body")
    if not isinstance(body, dict):
        what = "has no body" if body is None else f"has a body that is a {type(body).__name__}"
        raise _Wrong("invalid_request", f"{what}. It has to be a JSON object", custom_id)
    return body
