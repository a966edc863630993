"""Filters, tests and operations of templates, each of which refuses a result that is out of proportion beforehand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS, make_attrgetter
from jinja2.tests import TESTS
from jinja2.utils import pass_environment

from .limits import charge, check_size, check_time, paid, weigh

__all__ = [
    "check_call",
    "check_format",
    "check_operation",
    "checked",
    "compared",
    "concatenated",
    "filters",
    "tests",
    "tilde",
]

_MAX_NUMBER = 1_000_000
_WIDTH = re.compile(r"\*|\d{5}")
_NESTED = re.compile(r"\{[^{}]*\{")
#: Whose methods can make something large of little.
_BUILT_IN = (str, bytes, int, float, list, tuple, dict)
#: Filters for web pages, which can make any amount of text.
_LEFT_OUT = ("pprint", "urlize", "wordwrap", "xmlattr")
#: What compares, adds or hashes what it is given.
_COMPARING = frozenset(("dictsort", "groupby", "max", "min", "sort", "sum", "unique"))
_COMPARING_TESTS = frozenset(
    (*("==", "!=", "<", "<=", ">", ">="), *("eq", "ne", "lt", "le", "gt", "ge"), "equalto", "greaterthan", "lessthan")
).union(("in",))
#: What takes a number of characters or items.
_WIDE = frozenset(("batch", "center", "indent", "round", "slice", "truncate"))


def check_operation(operator: str, left: Any, right: Any) -> None:
    """Refuse an operation of Python's whose result would be too large."""
    if operator == "%" and isinstance(left, (str, bytes)):
        _check_form(str(left), str(left).count("%"), [right])
    elif isinstance(left, (int, float)) and isinstance(right, (int, float)):
        if max(abs(left), abs(right)) >= 2**64 or (operator == "**" and abs(right) > 64):
            raise SecurityError(f"an operation {operator} is too large")
    elif operator != "%":
        one, other = _size(left), _size(right)
        check_size(one * other if operator == "*" else one + other, f"an operation {operator}")


def check_call(method: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuse a call of a method of Python's own whose result would be too large."""
    owner = getattr(method, "__self__", None)
    if isinstance(owner, _BUILT_IN):
        _check_method(method, owner, args, kwargs)


def _check_method(method: Any, owner: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuse a call of a method of Python's own whose result would be too large."""
    name = getattr(method, "__name__", "")
    if isinstance(owner, (str, bytes, int)):
        _check_numbers(args, kwargs)
    given = (*args, *kwargs.values())
    if name == "replace" and isinstance(owner, (str, bytes)) and len(args) >= 2:
        _check_replaced(owner, args[0], args[1])
    elif name == "join" and args and isinstance(owner, (str, bytes)):
        _check_joined(owner, args[0])
    elif name == "translate" and args and isinstance(args[0], Mapping):
        check_size(len(owner) * max((_size(v) for v in args[0].values() if isinstance(v, str)), default=1), "a text")
    elif name == "expandtabs":
        check_size(len(owner) + owner.count("\t" if isinstance(owner, str) else b"\t") * max((8, *given)), "a text")
    elif name in ("count", "index", "remove", "__contains__"):
        for value in (owner, *given):
            weigh(value)


def check_format(form: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuse a call of ``str.format`` whose result would be too large."""
    if _NESTED.search(form):
        raise SecurityError("a width that is given apart is refused")
    _check_form(form, form.count("{"), (*args, *kwargs.values()))


def _size(value: Any) -> int:
    """Its length, or the number of times that it repeats something."""
    if isinstance(value, int):
        return abs(value)
    return len(value) if hasattr(value, "__len__") else 1


def _check_numbers(args: Iterable[Any], kwargs: Mapping[str, Any]) -> None:
    if any(isinstance(value, int) and value > _MAX_NUMBER for value in (*args, *kwargs.values())):
        raise SecurityError("a width or number is too large")


def _check_form(form: str, fields: int, values: Iterable[Any]) -> None:
    """Refuse widths that are given apart or too large, and more of them or of the values than a text can hold."""
    if _WIDTH.search(form):
        raise SecurityError("a width is too large")
    widest = max(map(int, re.findall(r"\d+", form)), default=0)
    longest = max((weigh(value) for value in values), default=0)
    check_size(len(form) + fields * max(widest, longest), "a text")


def _check_replaced(text: Any, old: Any, new: Any) -> None:
    if isinstance(old, type(text)) and isinstance(new, type(text)):
        check_size(len(text) + text.count(old) * len(new), "a text")


def _check_joined(between: Any, values: Any) -> None:
    if isinstance(values, (str, bytes)):
        check_size(len(values) * (1 + len(between)), "a text")
    elif hasattr(values, "__len__"):
        check_size(weigh(values) + len(values) * len(between), "a text")
    else:
        raise SecurityError("only texts, lists and the like are joined")


def concatenated(pieces: Iterable[str]) -> str:
    """What a macro or block printed, as one text."""
    kept = list(pieces)
    size = sum(map(len, kept))
    check_size(size, "a text")
    charge(size)
    return "".join(kept)


def checked(value: Any) -> Any:
    """A value that is going to be written as text."""
    check_size(weigh(value), "a value")
    return value


def compared(value: Any) -> Any:
    """A value that is going to be compared or hashed."""
    if not isinstance(value, (str, int)):
        weigh(value)
    return value


def tilde(values: list[Any]) -> str:
    """``a ~ b ~ c``."""
    check_size(sum(weigh(value) for value in values), "a text")
    return str(paid("".join(map(str, values))))


def _join(environment: Any, value: Any, d: str = "", attribute: str | int | None = None) -> str:
    # Jinja's own knows Markup, which no template here makes.
    item = make_attrgetter(environment, attribute) if attribute is not None else None
    values = [value if item is None else item(value) for value in paid(iter(value))]
    check_size(sum(weigh(each) for each in values) + len(values) * len(str(d)), "a text")
    return str(d).join(map(str, values))


def _replace(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    text, old, new = str(checked(text)), str(checked(old)), str(checked(new))
    _check_replaced(text, old, new)
    return str(text).replace(old, new, -1 if count is None else count)


def _string(value: Any) -> str:
    return str(checked(value))


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        check_time()
        if name in _WIDE:
            _check_numbers(args, kwargs)
        if name in _COMPARING:
            for value in args:
                weigh(value)
        return paid(function(*args, **kwargs))

    for key, value in getattr(function, "__dict__", {}).items():  # Jinja marks filters that want its environment
        setattr(call, key, value)
    return call


def _weighed(test: Callable[..., bool]) -> Callable[..., bool]:
    def call(*values: Any) -> bool:
        for value in values:
            compared(value)
        return test(*values)

    return call


def _indent(text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    """Jinja's, for texts of which each line can get so much more."""
    text = str(checked(text))
    check_size(len(text) + (text.count("\n") + 1) * _size(width), "a text")
    return str(FILTERS["indent"](text, width, first, blank))


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own escapes HTML, and its output is Markup.
    width = 0 if indent is None else _size(indent)
    if width > 64:
        raise SecurityError("an indent is too large")
    check_size(weigh(value) * max(1, width), "a text")
    text = json.dumps(value, indent=indent, separators=separators, sort_keys=sort_keys, ensure_ascii=False)
    # Marks of ours (noncharacters) have to stay what they are.
    return re.sub(r"[^\x00-\x7f\ufdd0-\ufdd2]", _escaped, text) if ensure_ascii else text


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


def _format(form: str, *args: Any, **kwargs: Any) -> str:
    form = str(checked(form))
    _check_form(form, form.count("%"), (*args, *kwargs.values()))
    return form % (kwargs or args)


def filters() -> dict[str, Callable[..., Any]]:
    """Jinja's filters by name, but those for web pages."""
    found: dict[str, Any] = {name: FILTERS[name] for name in FILTERS.keys() - set(_LEFT_OUT)}
    found.update(format=_format, indent=_indent, replace=_replace, string=_string, tojson=_tojson)
    found["join"] = pass_environment(_join)
    return {name: _guarded(name, function) for name, function in found.items()}


def tests() -> dict[str, Callable[..., Any]]:
    """Jinja's tests by name."""
    found: dict[str, Any] = dict(TESTS)
    return {name: _weighed(test) if name in _COMPARING_TESTS else test for name, test in found.items()}
