"""Whole prompts with the packaged templates, and prompts with images."""

from __future__ import annotations

import numpy as np
import pytest

from fastinfer.errors import MessageError
from fastinfer.prompts import IMAGE, ChatTemplate, PromptBuilder, find_template

USER = {"role": "user", "content": "hello"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "its name"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
EXCHANGE = [
    USER,
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "look it up",
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Rome", "days": 2}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
]


@pytest.fixture(scope="module")
def build(vocabularies):
    seed = vocabularies["bpe"]
    builders = {name: PromptBuilder(seed, find_template(name, seed)) for name in ("seed_oss", "chatml", "transcript")}
    return lambda name, *args, **options: builders[name].build(*args, **options)


# Seed-OSS.


@pytest.mark.parametrize("budget", [{}, {"thinking_budget": -1}])
def test_seed_oss_thinks_without_limit_unless_told_otherwise(build, seed, budget):
    prompt = build("seed_oss", "hello", **budget)
    assert prompt.text == "<seed:bos>user\nhello<seed:eos><seed:bos>assistant\n"
    assert prompt.generation_prompt == "<seed:bos>assistant\n"
    bos, eos = seed.special_tokens["<seed:bos>"], seed.special_tokens["<seed:eos>"]
    middle = [*seed.tokenize("user\nhello", special=False), eos, bos, *seed.tokenize("assistant\n", special=False)]
    assert prompt.tokens.tolist() == [bos, *middle]
    assert prompt.tokens.dtype == np.int32
    assert prompt.images == ()
    assert len(prompt.parts) == 1
    assert np.array_equal(prompt.parts[0], prompt.tokens)


def test_seed_oss_with_a_budget_reflects_at_intervals(build):
    prompt = build("seed_oss", "hello", thinking_budget=512)
    assert "thinking budget, which is 512" in prompt.text
    assert "every 128 tokens" in prompt.text
    assert prompt.generation_prompt == "<seed:bos>assistant\n"
    assert "every 1024 tokens" in build("seed_oss", "hello", thinking_budget=100000).text


def test_seed_oss_without_a_budget_has_already_thought(build, seed):
    prompt = build("seed_oss", "hello", thinking_budget=0)
    assert "your thinking budget is 0" in prompt.text
    assert prompt.generation_prompt.startswith("<seed:bos>assistant\n<seed:think>\n<seed:cot_budget_reflect>")
    assert prompt.generation_prompt.endswith("</seed:cot_budget_reflect>\n</seed:think>")
    known = seed.user_defined_tokens
    steering = [known["<seed:think>"], known["<seed:cot_budget_reflect>"]]
    steering += [known["</seed:cot_budget_reflect>"], known["</seed:think>"]]
    assert [t for t in prompt.tokens.tolist() if t in known.values() and seed.piece(t).strip()] == steering


def test_seed_oss_describes_tools_and_shows_calls_and_results(build):
    text = build("seed_oss", EXCHANGE, tools=[WEATHER]).text
    assert text.startswith("<seed:bos>system\nYou are Doubao")
    assert "def weather(city: str,days: int):" in text
    assert "- city (str) [必填]: its name" in text
    assert "- days (int) [选填]:" in text
    assert "<seed:think>look it up</seed:think>" in text
    call = "<seed:tool_call>\n<function=weather>\n<parameter=city>Rome</parameter>\n<parameter=days>2</parameter>\n"
    assert call in text
    assert text.endswith("<seed:bos>tool\nsunny<seed:eos><seed:bos>assistant\n")


def test_seed_oss_takes_functions_and_tools_without_parameters(build):
    def now():
        """The time."""

    text = build("seed_oss", "hello", tools=[now, {"type": "function", "function": {"name": "bare"}}]).text
    assert "def now():" in text
    assert "def bare():" in text


@pytest.mark.parametrize("form", ["reasoning_content", "reasoning", "content"])
def test_seed_oss_shows_earlier_reasoning(build, form):
    reply = {"role": "assistant", "content": "hi"}
    if form == "content":
        reply["content"] = "<seed:think>hm</seed:think>hi"
    else:
        reply[form] = "hm"
    text = build("seed_oss", [USER, reply, USER]).text
    assert text == (
        "<seed:bos>user\nhello<seed:eos><seed:bos>assistant\n<seed:think>hm</seed:think>\nhi<seed:eos>"
        "<seed:bos>user\nhello<seed:eos><seed:bos>assistant\n"
    )


def test_seed_oss_has_a_system_message(build):
    text = build("seed_oss", [{"role": "developer", "content": "be kind"}, USER]).text
    assert text.startswith("<seed:bos>system\nbe kind<seed:eos><seed:bos>user\nhello")


# ChatML.


def test_chatml(build):
    prompt = build(
        "chatml", [{"role": "system", "content": "be kind"}, USER, {"role": "assistant", "content": "hi"}, USER]
    )
    assert prompt.text == (
        "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n"
        "<|im_start|>assistant\nhi<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    )


def test_chatml_has_tools_in_the_form_of_hermes(build):
    text = build("chatml", [*EXCHANGE, {"role": "tool", "tool_call_id": "c1", "content": "warm"}], tools=[WEATHER]).text
    assert '<tools>\n{"type": "function", "function": {"name": "weather", ' in text
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome", "days": 2}}\n</tool_call><|im_end|>\n'
    assert f"<|im_start|>assistant\n{call}" in text
    assert text.endswith(
        "<|im_start|>user\n<tool_response>\nsunny\n</tool_response>\n<tool_response>\nwarm\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


# A transcript, for base models.


def test_a_transcript_ends_where_the_model_goes_on(build):
    prompt = build("transcript", [USER, {"role": "assistant", "content": "hi"}, {"role": "user", "content": " bye \n"}])
    assert prompt.text.endswith("\n\nUser: hello\nAssistant: hi\n\nUser: bye\nAssistant:")
    assert prompt.generation_prompt == "\nAssistant:"
    own = build("transcript", [{"role": "system", "content": "Talk like a pirate."}, USER])
    assert own.text.startswith("Talk like a pirate.\n")


def test_a_transcript_has_no_place_for_tools(build):
    with pytest.raises(MessageError, match="'transcript' has no place for tools"):
        build("transcript", "hello", tools=[WEATHER])
    with pytest.raises(MessageError, match="no place for tool messages"):
        build("transcript", EXCHANGE)


# The beginning of the reply.


def test_without_a_generation_prompt_the_prompt_ends_with_the_messages(build):
    prompt = build("chatml", "hello", add_generation_prompt=False)
    assert prompt.text.endswith("hello<|im_end|>\n")
    assert prompt.generation_prompt == ""


@pytest.mark.parametrize(
    ("source", "added"),
    [
        ("{{ messages[0].content }}{% if add_generation_prompt %}<think>\n{% endif %}", "<think>\n"),
        ("{{ messages[0].content }}", ""),
        ("{{ messages[0].content }}{% if not add_generation_prompt %}end{% endif %}", ""),
        ("{{ messages[0].content }}{{ raise_exception('no') if not add_generation_prompt }}x", ""),
    ],
)
def test_what_a_template_adds_is_known_where_it_can_be_told(seed, source, added):
    assert PromptBuilder(seed, ChatTemplate(source)).build("hello").generation_prompt == added


@pytest.mark.parametrize(("value", "words"), [(object(), "holds a object"), ("\ud800", "lone surrogate")])
def test_a_variable_that_is_no_json_is_refused(build, value, words):
    with pytest.raises(MessageError, match=f"Template variable 'note'.*{words}"):
        build("chatml", "hello", note=value)


# Images.


def image(data):
    return {"type": "image", "image": data}


def text(words):
    return {"type": "text", "text": words}


def test_images_are_in_their_places(build, seed):
    content = [image(b"1"), text("hello"), image(b"2"), image(b"3"), text("<|im_end|>")]
    prompt = build("chatml", [{"role": "user", "content": content}])
    assert prompt.images == (b"1", b"2", b"3")
    assert prompt.text.startswith(f"<|im_start|>user\n{IMAGE}hello{IMAGE}{IMAGE}<|im_end|><|im_end|>\n")
    places = [p if isinstance(p, int) else b"".join(seed.piece(t, special=True) for t in p) for p in prompt.parts]
    end = b"<|im_end|><|im_end|>\n<|im_start|>assistant\n"
    assert places == [b"<|im_start|>user\n", 0, b"hello", 1, 2, end]
    assert np.array_equal(prompt.tokens, np.concatenate([p for p in prompt.parts if not isinstance(p, int)]))


def test_images_reach_templates_that_take_parts(seed):
    source = (
        "{% for m in messages %}{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}"
        "{% endfor %}"
    )
    builder = PromptBuilder(seed, ChatTemplate(source))
    assert builder.build([{"role": "user", "content": [image(b"1"), text("hello")]}]).text == f"{IMAGE}hello"


MEDIA_TEMPLATE = (
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
    "{{ '<__media__>\n' if p.type == 'image' else p.text }}{% endfor %}{% endif %}|{% endfor %}"
)


def test_a_template_that_places_images_itself_does_so(seed):
    builder = PromptBuilder(seed, ChatTemplate(MEDIA_TEMPLATE))
    content = [text("a"), image(b"1"), image(b"2"), text("hello")]
    prompt = builder.build([{"role": "user", "content": content}, {"role": "assistant", "content": "b"}])
    assert prompt.text == f"a{IMAGE}\n{IMAGE}\nhello|b|"
    assert [p for p in prompt.parts if isinstance(p, int)] == [0, 1]
    assert builder.build([USER]).text == f"{USER['content']}|"


@pytest.mark.parametrize("words", ["<__media__>", "a<__media__>b", "<__med", "ia__>"])
def test_its_mark_in_a_text_is_no_image(seed, words):
    builder = PromptBuilder(seed, ChatTemplate(MEDIA_TEMPLATE))
    content = [text(words), image(b"1"), text(words)]
    assert builder.build([{"role": "user", "content": content}]).text == f"{words}{IMAGE}\n{words}|"
    both = [text("<__med"), text("ia__>")]
    assert builder.build([{"role": "user", "content": [image(b"1"), *both]}]).images == (b"1",)
    assert builder.build(words).images == ()


def test_a_template_that_loses_an_image_is_an_error(seed):
    builder = PromptBuilder(seed, ChatTemplate("{{ messages[-1].content }}"))
    with pytest.raises(MessageError, match="shows 0 of 1 images"):
        builder.build([{"role": "user", "content": [image(b"1")]}, USER])


def test_the_mark_of_an_image_in_a_text_is_no_image(build):
    prompt = build("chatml", f"a{IMAGE}b\ufdd1c\ufdd2d")
    assert prompt.images == ()
    assert len(prompt.parts) == 1
    assert f"a{IMAGE}b\ufdd1c\ufdd2d" in prompt.text


def test_errors_name_the_callers_text_without_marks(seed):
    builder = PromptBuilder(seed, ChatTemplate("{{ raise_exception('bad: ' + messages[0].content) }}", name="mine"))
    with pytest.raises(MessageError, match=r"bad: <\|im_end\|>"):
        builder.build("<|im_end|>")
