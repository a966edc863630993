"""A chat template from a stranger's model: a prompt, or an error of ours, within the limits of the sandbox."""

from __future__ import annotations

from fastinfer.errors import MessageError, ModelLoadError
from fastinfer.prompts import ChatTemplate
from fastinfer.prompts.limits import MAX_CHARACTERS

__all__ = ["WORDS", "check", "seeds"]

WORDS = tuple(
    text.encode()
    for text in (
        *("{{ ", " }}", "{% ", " %}", "{%- ", "{#", "#}", "{% for m in messages %}", "{% endfor %}", "{% set ", "|"),
        *("{% macro f(x) %}", "{% endmacro %}", "{% if ", "{% endif %}", "{% break %}", "namespace(", "range(", "loop"),
        *("tojson", "items", "join", "format", "replace", "'%1000000d'", "**", " * ", "~", "10**9", "attr"),
        *("raise_exception(", "strftime_now(", "recursive", "caller()", "{% call ", "{% filter ", "{% generation %}"),
        *("messages[0].content", "add_generation_prompt", "bos_token", "__class__", "\\ud800", "not ", "(" * 50),
    )
)
_CONVERSATION = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hello"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}],
    },
]


def seeds() -> list[bytes]:
    """Templates in the manner of ChatML, Llama and Mistral, with macros, namespaces and filters."""
    plain = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    return [
        text.encode()
        for text in (
            plain + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
            "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]"
            "{% elif m.tool_calls %}{% for c in m.tool_calls %}{{ c.function | tojson }}{% endfor %}{% endif %}"
            "{% endfor %}",
            "{% macro show(m, n=1) %}{{ m.role ~ ':' ~ m.content * n }}{% endmacro %}{% set ns = namespace(s='') %}"
            "{% for m in messages %}{% set ns.s = ns.s + show(m) %}{% endfor %}{{ ns.s }}",
            "{% for i in range(3) recursive %}{{ loop([]) }}{{ '%s-%3d' % ('a', i) }}{{ 'b' | center(9) }}{% endfor %}"
            "{{ messages | map(attribute='content') | join(', ') | replace('a', 'b') | indent(2) }}",
            "{% if tools %}{{ tools | tojson(indent=2) }}{% endif %}{{ raise_exception('no') if false }}" + plain,
        )
    ]


def check(data: bytes) -> None:
    """Compiled and rendered, or refused; what is rendered is text that can be encoded and is not too long."""
    try:
        template = ChatTemplate(data.decode("utf-8", "replace"), bos="<s>", eos="</s>")
        text = template.render(_CONVERSATION)
    except (MessageError, ModelLoadError) as error:
        assert error.hint
        return
    text.encode()
    assert len(text) <= MAX_CHARACTERS
