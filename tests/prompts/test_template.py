"""Templates as models bring them: what they cannot take is given in another way, and nothing they do gets out."""

from __future__ import annotations

import sys
import time

import pytest

from fastinfer.errors import MessageError, ModelLoadError
from fastinfer.prompts import ChatTemplate, limits

USER = {"role": "user", "content": "hello"}
SYSTEM = {"role": "system", "content": "be kind"}
CALL = {"type": "function", "function": {"name": "f", "arguments": {"a": "x", "n": 1}}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
EACH = "{% for m in messages %}"
PLAIN = EACH + "[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"


def render(source, messages, **options):
    return ChatTemplate(source).render(messages, **options)


def test_messages_and_the_beginning_of_the_reply():
    assert render(PLAIN, [SYSTEM, USER]) == "[system]be kind[user]hello[assistant]"
    assert render(PLAIN, [USER], add_generation_prompt=False) == "[user]hello"


def test_variables_of_transformers_are_there():
    source = "{{ bos_token }}|{{ eos_token }}|{{ tools }}|{{ enable_thinking }}|{{ strftime_now('%Y') }}"
    template = ChatTemplate(source, bos="<s>", eos="</s>")
    year = time.strftime("%Y")
    assert template.render([USER], enable_thinking=False) == f"<s>|</s>|None|False|{year}"


def test_blocks_leave_no_lines_and_loops_can_be_left():
    source = (
        "{% for m in messages %}\n    {% if loop.index == 2 %}\n        {% break %}\n    {% endif %}\n"
        "{{ m.content }}\n{% endfor %}\n"
    )
    assert render(source, [USER, USER, USER]) == "hello\n"


def test_loops_know_where_they_are():
    source = (
        "{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ loop.last }}"
        "{{ loop.previtem.role if not loop.first }}{{ loop.nextitem.role if not loop.last }} {% endfor %}"
    )
    assert render(source, [SYSTEM, USER]) == "1/2Falseuser 2/2Truesystem "


def test_generation_blocks_of_transformers_print_what_is_in_them():
    assert render(EACH + "{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}", [USER]) == "hello"


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("x | tojson", '{"b": "<é>", "a": 1}'),
        ("x | tojson(ensure_ascii=True)", '{"b": "<\\u00e9>", "a": 1}'),
        ("x | tojson(indent=1)", '{\n "b": "<é>",\n "a": 1\n}'),
        ("x | tojson(separators=(',', ':'), sort_keys=true)", '{"a":1,"b":"<é>"}'),
    ],
)
def test_json_is_written_as_transformers_writes_it(expression, text):
    assert render(f"{{{{ {expression} }}}}", [USER], x={"b": "<é>", "a": 1}) == text


def test_contents_are_texts_where_a_template_takes_them_and_parts_elsewhere():
    parts = EACH + "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}{% endfor %}"
    both = EACH + "{% if m.content is string %}text {{ m.content }}{% else %}parts{% endif %}{% endfor %}"
    assert render(parts, [SYSTEM, USER]) == "be kindhello"
    assert render(both, [USER]) == "text hello"


REFUSING = "{% if messages[0].role == 'system' %}{{ raise_exception('No system.') }}{% endif %}" + PLAIN
DROPPING = EACH + "{% if m.role != 'system' %}[{{ m.role }}]{{ m.content }}{% endif %}{% endfor %}"


@pytest.mark.parametrize("source", [REFUSING, DROPPING])
def test_a_system_message_that_a_template_refuses_or_drops_begins_the_users(source):
    got = render(source, [SYSTEM, USER, SYSTEM, SYSTEM, USER], add_generation_prompt=False)
    assert got == "[user]be kind\nhello[user]be kind\nbe kind\nhello"
    assert render(source, [USER, SYSTEM], add_generation_prompt=False) == "[user]hello[user]be kind"


def test_arguments_are_dicts_where_a_template_goes_through_them():
    source = (
        EACH + "{% for c in m.tool_calls %}{% for k, v in c.function.arguments | items %}{{ k }}={{ v }};{% endfor %}"
        "{% endfor %}{{ m.content }}{% endfor %}"
    )
    assert render(source, [USER, CALLING]) == "helloa=x;n=1;"


@pytest.mark.parametrize(
    "print_them",
    ["{{ c.function.arguments }}", "{{ '' + c.function.arguments }}", "{{ c.function.arguments | string }}"],
)
def test_arguments_are_json_where_a_template_prints_them(print_them):
    source = EACH + "{% for c in m.tool_calls %}" + print_them + "{% endfor %}{{ m.content }}{% endfor %}"
    assert render(source, [USER, CALLING]) == 'hello{"a": "x", "n": 1}'


def test_empty_contents_are_none_where_a_template_knows_calls_by_it():
    source = (
        EACH + "{% if m.content is none %}{{ m.tool_calls[0].function | tojson }}{% else %}{{ m.content }}{% endif %}"
        "{% endfor %}"
    )
    assert render(source, [USER, CALLING]) == 'hello{"name": "f", "arguments": {"a": "x", "n": 1}}'


def test_calls_are_text_where_a_template_would_drop_them():
    assert render(PLAIN, [USER, {**CALLING, "content": "well"}], add_generation_prompt=False) == (
        '[user]hello[assistant]well\n{"name": "f", "arguments": {"a": "x", "n": 1}}'
    )


def test_whether_a_template_takes_tools_is_known():
    assert ChatTemplate("{{ tools | tojson }}" + PLAIN).takes_tools
    assert ChatTemplate("{% for t in tools %}{{ t.function.name }}{% endfor %}" + PLAIN).takes_tools
    assert not ChatTemplate(PLAIN).takes_tools


def test_no_tools_is_none_or_undefined_as_a_template_needs_it():
    assert render("{% for t in tools %}{{ t }}{% endfor %}" + PLAIN, [USER]).startswith("[user]")
    assert render("{% if tools is none %}none{% endif %}" + PLAIN, [USER]).startswith("none")


def test_conversations_with_tools_get_the_template_for_them():
    template = ChatTemplate(PLAIN, tool_use=ChatTemplate("{{ tools[0].function.name }}" + PLAIN))
    assert template.takes_tools
    assert template.render([USER]) == "[user]hello[assistant]"
    assert template.render([USER], tools=[{"function": {"name": "f"}}]) == "f[user]hello[assistant]"


def test_a_template_may_collect_in_lists_without_changing_the_callers():
    messages = [dict(USER)]
    source = "{% set _ = messages.append(messages[0]) %}{% set q = ['x'] %}{{ q.pop() }}" + PLAIN
    assert render(source, messages) == "x[user]hello[user]hello[assistant]"
    assert messages == [USER]


def test_a_template_says_why_it_refuses_messages():
    source = "{% if messages | length > 1 %}{{ raise_exception('Roles must alternate.') }}{% endif %}" + PLAIN
    with pytest.raises(MessageError) as error:
        ChatTemplate(source, name="mine").render([USER, USER])
    assert "The chat template 'mine' refuses these messages: Roles must alternate." in str(error.value)
    assert error.value.hint
    assert error.value.__cause__ is not None


@pytest.mark.parametrize(
    "trap",
    ["1 / 0", "messages[0].content.nope.nope", "none + 1", "{}['a']['b']", "'x'.index('y')", "'\\ud800'"],
)
def test_a_template_that_fails_is_an_error_of_these_messages(trap):
    source = PLAIN + "{% if trap %}{{ " + trap + " }}{% endif %}"
    with pytest.raises(MessageError):
        render(source, [USER], trap=True)


@pytest.mark.parametrize("source", ["{% for %}", "{{ a", "{% if a %}", "{% nope %}", "{{ a | nope }}", "{% endif %}"])
def test_what_is_no_jinja_is_refused_when_it_is_loaded(source):
    with pytest.raises(ModelLoadError, match="'mine' is no Jinja template") as error:
        ChatTemplate(source, name="mine")
    assert error.value.hint


ESCAPES = [
    "''.__class__.__mro__", "messages.__class__", "(messages | attr('__class__')).__subclasses__()",
    "cycler.__init__.__globals__.os", "self.__init__.__globals__", "raise_exception.__globals__", "lipsum()",
    "messages.clear()", "messages[0].update(a=1)", "'{0.__class__}'.format(messages)", "namespace.__init__",
]  # fmt: skip


@pytest.mark.parametrize("expression", ESCAPES)
def test_there_is_no_way_out_of_the_sandbox(expression):
    template = ChatTemplate(PLAIN + "{% if go %}{{ " + expression + " }}{% endif %}")
    messages = [dict(USER)]
    try:
        got = template.render(messages, go=True)
    except MessageError:
        got = template.render(messages)
    assert got == "[user]hello[assistant]"
    assert messages == [USER]


HUGE = [
    "'x' * 10 ** 9", "['x'] * (10 ** 9)", "10 ** (10 ** 9)", "(10 ** 20) ** 20", "'%01000000d' % 1",
    "'%*d' | format(1000000, 1)", "'x'.ljust(10 ** 9)", "'x' | center(10 ** 9)", "'x' | indent(10 ** 9)",
    "[1] | batch(10 ** 9, 0) | list", "messages | tojson(indent=10 ** 9)", "range(10 ** 9) | list",
    "(2 ** 64) * (2 ** 64)",
]  # fmt: skip


@pytest.mark.parametrize("expression", HUGE)
def test_a_result_out_of_all_proportion_is_refused_at_once(expression):
    began = time.monotonic()
    template = ChatTemplate(PLAIN + "{% if go %}{{ " + expression + " }}{% endif %}")
    with pytest.raises(MessageError):
        template.render([USER], go=True)
    assert time.monotonic() - began < 5


ENDLESS = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% for i in range(99999) recursive %}{{ loop(range(99999)) }}{% endfor %}",
    "{% for i in range(99999) %}{{ 'x' * 99999 }}{% endfor %}",
    "{% set n = namespace(s='xx') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
]


@pytest.mark.parametrize("source", ENDLESS)
def test_a_template_without_end_is_ended(monkeypatch, source):
    monkeypatch.setattr(limits, "MAX_SECONDS", 0.3)
    began = time.monotonic()
    with pytest.raises(MessageError):
        render(PLAIN + "{% if go %}" + source + "{% endif %}", [USER], go=True)
    assert time.monotonic() - began < 10


def test_ordinary_arithmetic_goes_on_working():
    source = "{{ 'a' * 3 }}{{ 2 ** 3 }}{{ 7 % 3 }}{{ '%s-%3d' % ('a', 1) }}{{ [1] + [2] }}{{ 1 + 2.5 }}"
    source += "{{ 'a'.ljust(3) }}|{{ 'a %s' | format('b') }}"
    assert render(source, [USER]) == "aaa81a-  1[1, 2]3.5a  |a b"


def test_a_template_nested_beyond_reason_is_refused():
    with pytest.raises(ModelLoadError):
        ChatTemplate("{{ " + "(" * 20000 + ")" * 20000 + " }}")


BIG = "{% set a = 'x' * 1000000 %}"
TWICE = "{% for i in range(60) %}{% set n.a = [n.a, n.a] %}{% set n.b = [n.b, n.b] %}{% endfor %}"
NESTED = "{% set n = namespace(a=['x'], b=['x']) %}" + TWICE
OUT_OF_PROPORTION = [
    "{{ a | join(a) }}", "{{ a.join(['x'] * 100000) }}", "{{ a | replace('x', a) }}", "{{ a.replace('', a) }}",
    "{% set n = namespace(s='xx') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "{{ ('%9999d' * 100000) % ([1] * 100000) }}", "{{ ('%s' * 100000) | format(a) }}", "{{ '%s' % ([a] * 1000000) }}",
    "{{ '{:>1000000000}'.format('x') }}", "{{ '{:{w}}'.format('x', w='1000000000') }}",
    "{{ ('{0}' * 1000000).format(a) }}", "{{ (5).to_bytes(1000000000, 'big') }}", "{{ a.translate({120: a}) }}",
    "{{ ('\t' * 1000000).expandtabs(1000000) }}", "{{ a | map('center', 1000000) | list }}",
    "{{ ('\n' * 1000000) | indent(1000000, blank=true) }}", "{{ [a] * 1000000 }}", "{{ strftime_now('%c' * 1000000) }}",
    "{{ ([['x'] * 1000] * 100000) | sum(start=[]) }}",
    "{% macro f(n) %}{% for i in range(99999) %}{{ a }}{% endfor %}{% endmacro %}{{ f(1) }}",
]  # fmt: skip
ENDLESSLY_NESTED = [
    "{{ n.a }}", "{{ n.a | tojson }}", "{{ n.a ~ '' }}", "{{ n.a | string }}", "{{ [n.a] | join }}", "{{ n.a == n.b }}",
    "{{ n.a in [n.b] }}", "{{ n.a is eq n.b }}", "{{ [n.a] | select('eq', n.b) | list }}", "{{ [n.a].index(n.b) }}",
    "{{ [n.a, n.b] | sort }}", "{{ '{}'.format(n.a) }}", "{{ n }}", "{{ dict(a=n.a).values() }}",
    "{% set _ = n.a.append(n.a) %}{% set _ = n.b.append(n.b) %}{{ n.a == n.b }}",
]  # fmt: skip


@pytest.mark.parametrize("source", [BIG + b for b in OUT_OF_PROPORTION] + [NESTED + b for b in ENDLESSLY_NESTED])
def test_what_would_take_gigabytes_or_centuries_is_refused_and_the_next_call_works(source):
    template = ChatTemplate("{% if go %}" + source + "{% endif %}" + PLAIN)
    began = time.monotonic()
    with pytest.raises(MessageError, match=r"too large|refused|MiB|too long"):
        template.render([USER], go=True)
    assert time.monotonic() - began < 5
    assert template.render([USER]) == "[user]hello[assistant]"


def test_keys_of_keys_are_not_hashed_for_ever():
    source = "{% set n = namespace(a=('x',)) %}{% for i in range(60) %}{% set n.a = (n.a, n.a) %}{% endfor %}"
    with pytest.raises(MessageError, match="too large"):
        render(PLAIN + "{% if go %}" + source + "{{ {n.a: 1} }}{% endif %}", [USER], go=True)


HOLDING = [
    "{% set l = [] %}{% for i in range(99999) %}{% set _ = l.append('x' * 10000000) %}{% endfor %}",
    "{% set l = [] %}{% for i in range(99999) %}{% set _ = l.append([1] * 1000000) %}{% endfor %}",
    "{% set l = [] %}{% for i in range(99999) %}{% set _ = l.append(a[1:]) %}{% endfor %}",
    "{% set l = [] %}{% for i in range(999) %}{% set _ = l.append(('ab,' * 1000000).split(',')) %}{% endfor %}",
    "{% macro f(n) %}{{ 'x' * 10000000 }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% set l = [] %}{% for i in range(999) %}{% set b %}{{ a ~ a }}{% endset %}{% set _ = l.append(b) %}{% endfor %}",
]


@pytest.mark.skipif(sys.platform != "linux", reason="counts kibibytes as Linux does")
def test_a_template_that_holds_on_to_a_gigabyte_is_ended_before_and_lets_go(run_python):
    code = f"""
import gc, resource
from fastinfer.errors import MessageError
from fastinfer.prompts import ChatTemplate
gc.disable()  # what it made is not left to the garbage collector
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for source in {HOLDING!r}:
    template = ChatTemplate("{{% if go %}}" + {BIG!r} + source + "{{% endif %}}" + {PLAIN!r})
    try:
        template.render([{USER!r}], go=True)
    except MessageError as error:
        assert "more than 256 MiB" in str(error), error
    else:
        raise SystemExit("it was rendered")
    assert template.render([{USER!r}]) == "[user]hello[assistant]"
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 600


@pytest.mark.parametrize(
    "source",
    ["{{ a }}" * 60_000, "{{ '" + "x" * 300_000 + "' }}", "{% if a %}" * 3000 + "{% endif %}" * 3000,
     "{{ " + "[" * 3000 + "]" * 3000 + " }}", "{{ 1" + " + 1" * 5000 + " }}", "{{ " + "not " * 5000 + "a }}",
     "{{ 'x' | center(999999) | list | map('center', 999999) | join }}" * 3],
    ids=["long", "a huge literal", "deep blocks", "deep lists", "a long sum", "a long negation", "constants"],
)  # fmt: skip
def test_what_takes_long_to_compile_is_refused_or_compiled_in_moments(source):
    began = time.monotonic()
    try:
        ChatTemplate("{% if go %}" + source + "{% endif %}" + PLAIN)
    except ModelLoadError as error:
        assert error.hint  # noqa: PT017 - some are, by their length or depth; how deep Python goes is its own business
    assert time.monotonic() - began < 10


def test_what_templates_of_models_do_is_within_the_limits():
    many = [dict(USER, content="x" * 1000), {"role": "assistant", "content": "y" * 1000}] * 300
    collecting = "{% set n.s = n.s + m.content %}{% set n.l = n.l + [m] %}{% endfor %}"
    collecting = "{% set n = namespace(s='', l=[]) %}" + EACH + collecting
    got = render(collecting + "{{ n.s }}{{ n.l | length }}{{ 5000000 | string }}", many)
    assert len(got) == 600_000 + 3 + 7
    assert render("{{ nothing | default(5000000) }}{{ '{:,}'.format(5000000) }}{{ '%d' % 5000000 }}", [USER]) == (
        "50000005,000,0005000000"
    )
    assert render("{{ messages | map(attribute='content') | join(', ') }}{{ ['a', 'b'] | join }}", [USER]) == "helloab"
    assert render("{{ 'a' ~ 1 ~ none ~ [1] }}{{ 'aaa' | replace('a', 'b', 2) }}{{ 'a\nb' | indent(2) }}", [USER]) == (
        "a1None[1]bbaa\n  b"
    )
