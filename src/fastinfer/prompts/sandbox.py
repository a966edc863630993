"""Jinja for chat templates, which come with models from anywhere: no way out to Python, and an end to all work.

The variables and filters are those of Transformers, which templates are written for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from traceback import clear_frames
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import pass_context
from jinja2.visitor import NodeTransformer

from .bounded import check_call, check_format, check_operation, checked, compared, concatenated, filters, tests, tilde
from .limits import MAX_CHARACTERS, charge, check_time, limited, paid

__all__ = ["FAILURES", "compile_template", "render_template"]

#: Of a template's source; those of models have some ten thousand.
MAX_SOURCE = 1 << 18
_LONGEST_DATE = 256

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
_GONE_TOO_FAR = (SecurityError, MemoryError)


class _Generation(Extension):
    """``{% generation %}`` of Transformers, which marks the assistant's part and prints what is in it."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The nodes between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Also refuses operations whose result is out of proportion to what a prompt can hold."""

    concat = staticmethod(concatenated)
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may read an attribute; also a list's ``append`` and ``pop``, which some queue with."""
        return (attr in ("append", "pop") and type(obj) is list) or super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Evaluate an operation whose result is not too large."""
        check_operation(operator, left, right)
        return paid(super().call_binop(context, operator, left, right))

    def handle_exception(self, source: str | None = None) -> NoReturn:
        """Raise again what a template raised, with the template's lines in its traceback."""
        if isinstance(sys.exc_info()[1], _GONE_TOO_FAR):
            raise  # whose frames hold on to all that the template made: the fewer of them the better
        super().handle_exception(source)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """For ``str.format`` and ``format_map``, what Jinja calls in their place."""
        safe = super().wrap_str_format(value)
        if safe is None:
            return None

        def bounded(*args: Any, **kwargs: Any) -> str:
            check_format(value.__self__, args, kwargs)
            return safe(*args, **kwargs)

        return bounded

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as Jinja names them
        """Call a method or macro while there is time."""
        check_time()
        check_call(__obj, args, kwargs)
        return paid(super().call(__context, __obj, *args, **kwargs))


def _raise_exception(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _strftime_now(form: str) -> str:
    if len(form) > _LONGEST_DATE:
        raise SecurityError("a form of a date is too long")
    return datetime.now().strftime(form)


class _Watched(NodeTransformer):
    """Has what Jinja leaves to Python's own operators go through functions of this module."""

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        """The node, or one in its place, with all that is in it."""
        node = super().generic_visit(node, *args, **kwargs)
        if isinstance(node, nodes.For):
            node.iter = _through("timed", node.iter)
        elif isinstance(node, nodes.Concat):
            return _through("tilde", nodes.List(node.nodes, lineno=node.lineno))
        elif isinstance(node, nodes.Compare):
            node.expr = _through("compared", node.expr)
            for operand in node.ops:
                operand.expr = _through("compared", operand.expr)
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice) and node.ctx == "load":
            return _through("paid", node)
        elif isinstance(node, nodes.Tuple) and node.ctx == "load":
            return _through("compared", node)  # the only one of these that can be hashed
        return node


def _through(name: str, node: Any) -> Any:
    if isinstance(node, nodes.Const):
        return node
    return nodes.Filter(node, f"fastinfer_{name}", [], [], None, None, lineno=node.lineno)


def _environment() -> _Sandbox:
    environment = _Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[loopcontrols, _Generation],
        optimized=False,  # nothing is computed while a template is compiled
        finalize=_shown,
    )
    ours = {"timed": _iterated, "tilde": tilde, "compared": compared, "paid": paid}
    environment.filters.clear()
    environment.filters.update(filters())
    environment.filters.update({f"fastinfer_{name}": function for name, function in ours.items()})
    environment.tests.update(tests())
    environment.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)
    del environment.globals["lipsum"]
    return environment


@pass_context  # or what is constant would be computed while it is compiled
def _shown(_: object, value: Any) -> Any:
    """What is printed."""
    return checked(value)


def _iterated(values: Any) -> Any:
    """What a loop goes through, with an eye on the clock."""
    return paid(iter(values))


_ENVIRONMENT = _environment()


def compile_template(source: str) -> Template:
    """Compile a chat template; what it does watches its limits.

    Raises:
        TemplateError: it is no Jinja template, or too long for one.
        RecursionError: it is nested too deeply.
    """
    if len(source) > MAX_SOURCE:
        raise TemplateError(f"it has {len(source)} characters; at most {MAX_SOURCE} are read")
    tree = _Watched().visit(_ENVIRONMENT.parse(source))
    tree.set_environment(_ENVIRONMENT)
    return Template.from_code(_ENVIRONMENT, _ENVIRONMENT.compile(tree), _ENVIRONMENT.make_globals(None))


def render_template(template: Template, variables: Mapping[str, Any]) -> str:
    """Render a template that :func:`compile_template` made; see :mod:`fastinfer.prompts.limits` for what it may use.

    Raises:
        Exception: one of :data:`FAILURES`; SecurityError among them for a template that goes too far.
    """
    with limited():
        pieces, room = [], MAX_CHARACTERS
        try:
            for piece in template.generate(variables):
                room -= len(piece)
                if room < 0:
                    raise SecurityError(f"its output is longer than {MAX_CHARACTERS} characters")
                charge(len(piece))
                pieces.append(piece)
        except _GONE_TOO_FAR as error:
            raise _let_go(error) from None
        text = "".join(pieces)
        text.encode()  # a template can write half a surrogate pair, which no tokenizer can read
        return text


def _let_go(error: Exception) -> Exception:
    """The error without the frames that it came through, which would hold on to all that the template made."""
    clear_frames(error.__traceback__)
    return error.with_traceback(None)
