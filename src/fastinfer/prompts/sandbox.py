"""Jinja for chat templates, which come with models from anywhere: no way out to Python, and an end to all work.

The variables and filters are those of Transformers, which templates are written for.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["FAILURES", "compile_template", "render_template"]

MAX_SECONDS = 10.0
MAX_CHARACTERS = 16 << 20
_MAX_NUMBER = 1_000_000
_WIDTH = re.compile(r"\*|\d{5}")

#: What a template can raise, by itself or through Python's own methods.
FAILURES = (
    TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
    AssertionError,
)

_deadline: ContextVar[float] = ContextVar("_deadline", default=float("inf"))


class _Generation(Extension):
    """``{% generation %}`` of Transformers, which marks the assistant's part and prints what is in it."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The nodes between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Also refuses operations whose result is out of proportion to what a prompt can hold."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may read an attribute; also a list's ``append`` and ``pop``, which some queue with."""
        return (attr in ("append", "pop") and type(obj) is list) or super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Evaluate an operation whose result is not too large."""
        if operator == "%":
            fits = not isinstance(left, str) or not _WIDTH.search(left)
        elif isinstance(left, (int, float)) and isinstance(right, (int, float)):
            fits = max(abs(left), abs(right)) < 2**64 and (operator != "**" or abs(right) <= 64)
        elif operator == "*":
            fits = _size(left) * _size(right) <= MAX_CHARACTERS
        else:
            fits = _size(left) + _size(right) <= MAX_CHARACTERS
        if not fits:
            raise SecurityError(f"an operation {operator} is too large")
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as Jinja names them
        """Call a method or macro while there is time."""
        _check_time()
        if isinstance(getattr(__obj, "__self__", None), str):
            _check_numbers(args, kwargs)
        return super().call(__context, __obj, *args, **kwargs)


def _size(value: Any) -> int:
    """Its length, or the number of times that it repeats something."""
    if isinstance(value, int):
        return abs(value)
    return len(value) if hasattr(value, "__len__") else 1


def _check_time() -> None:
    if time.monotonic() > _deadline.get():
        raise SecurityError(f"it runs for more than {MAX_SECONDS:g} s")


def _check_numbers(args: Iterable[Any], kwargs: Mapping[str, Any]) -> None:
    if any(isinstance(value, int) and value > _MAX_NUMBER for value in (*args, *kwargs.values())):
        raise SecurityError("a width or number is too large")


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        _check_numbers(args, kwargs)
        return function(*args, **kwargs)

    for name, value in vars(function).items():  # Jinja marks filters that want its environment
        setattr(call, name, value)
    return call


def _timed(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        _check_time()
        yield value


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own escapes HTML, and its output is Markup.
    if indent is not None and (len(indent) if isinstance(indent, str) else indent) > 64:
        raise SecurityError("an indent is too large")
    text = json.dumps(value, indent=indent, separators=separators, sort_keys=sort_keys, ensure_ascii=False)
    # Marks of ours (noncharacters) have to stay what they are.
    return re.sub(r"[^\x00-\x7f\ufdd0-\ufdd2]", _escaped, text) if ensure_ascii else text


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


def _raise_exception(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _format(form: str, *args: Any, **kwargs: Any) -> str:
    if _WIDTH.search(str(form)):
        raise SecurityError("a width is too large")
    return str(form) % (kwargs or args)


def _environment() -> _Sandbox:
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation])
    for name in ("center", "indent", "batch", "slice", "wordwrap", "truncate", "round"):
        environment.filters[name] = _bounded(environment.filters[name])
    environment.filters.update(tojson=_tojson, format=_format, fastinfer_timed=_timed)
    environment.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)
    del environment.globals["lipsum"]
    return environment


_ENVIRONMENT = _environment()


def compile_template(source: str) -> Template:
    """Compile a chat template; every loop in it watches the clock.

    Raises:
        TemplateError: it is no Jinja template.
        RecursionError: it is nested too deeply.
    """
    tree = _ENVIRONMENT.parse(source)
    for loop in tree.find_all(nodes.For):
        loop.iter = nodes.Filter(loop.iter, "fastinfer_timed", [], [], None, None, lineno=loop.lineno)
    tree.set_environment(_ENVIRONMENT)
    return Template.from_code(_ENVIRONMENT, _ENVIRONMENT.compile(tree), _ENVIRONMENT.make_globals(None))


def render_template(template: Template, variables: Mapping[str, Any]) -> str:
    """Render a template that :func:`compile_template` made; at most 16 Mi characters in about 10 s.

    Raises:
        Exception: one of :data:`FAILURES`; SecurityError among them for a template that goes too far.
    """
    token = _deadline.set(time.monotonic() + MAX_SECONDS)
    try:
        pieces, room = [], MAX_CHARACTERS
        for piece in template.generate(variables):
            room -= len(piece)
            if room < 0:
                raise SecurityError(f"its output is longer than {MAX_CHARACTERS} characters")
            pieces.append(piece)
        text = "".join(pieces)
        text.encode()  # a template can write half a surrogate pair, which no tokenizer can read
        return text
    finally:
        _deadline.reset(token)
