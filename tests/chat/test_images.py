"""Images in messages: what is said about them, whichever way they come and whatever else is asked meanwhile."""

from __future__ import annotations

import asyncio
import base64
import codecs
import io
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastinfer
import plain_mtmd as plain
import tiny_models as tiny
from fastinfer.errors import ImageDecodeError, MessageError, PromptTooLongError, RequestTimeoutError
from fastinfer.prompts import IMAGE

SAMPLES = Path(fastinfer.__file__).parent / "samples"
NAMES = ["smolvlm", "internvl3", "qwen2vl", "gemma3"]
EXACT = {"n_ctx": 4096, "n_batch": 512, "n_ubatch": 512, "type_k": "f32", "type_v": "f32", "flash_attn": False,
         "n_threads": 1}  # fmt: skip
GREEDY = {"temperature": 0.0, "repeat_penalty": 1.0, "max_tokens": 10}


RED, BLUE = plain.draw(64, 64), plain.draw(40, 100, 1)


@pytest.fixture(scope="module", params=NAMES)
def path(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs") / request.param
    return tiny.write_model(folder, tiny.ARCHITECTURES[request.param])


@pytest.fixture(scope="module")
def seeing(path):
    with fastinfer.llm("embedded", model=path, chat_template="chatml", **EXACT) as model:
        yield model


@pytest.fixture(scope="module")
def reference(path, seeing):
    """What the plainest use of llama.cpp says to the prompt that the template makes of messages."""
    model = plain.PlainMtmd(path)

    def reply(messages, images, max_tokens=10):
        text = seeing._builder.build(messages).text.replace(IMAGE, plain.MARKER)
        with seeing._engine.vocabulary() as vocabulary:
            text = text.removeprefix(vocabulary.bos) if vocabulary.adds_bos else text
        return model.reply(text, images, max_tokens)

    yield reply
    model.close()


@pytest.fixture(scope="module")
def embedded():
    with fastinfer.llm(model="embedded") as model:
        yield model


def image(source):
    return {"type": "image", "image": source}


def text(words):
    return {"type": "text", "text": words}


def user(*parts):
    return {"role": "user", "content": list(parts)}


def check(reply, expected):
    """A reply is the plain one, as far as that is clear."""
    said, cells, clear = expected
    assert reply.usage.prompt_tokens == cells
    words = codecs.getincrementaldecoder("utf-8")("replace").decode(said, final=clear)
    assert reply.text == words if clear else reply.text.startswith(words)


def conversations():
    return [
        ([user(text("What is this?"), image(RED))], [RED]),
        ([user(image(RED), text("What is this?"))], [RED]),
        ([user(text("red"), image(RED), text("or"), image(BLUE), text("?"))], [RED, BLUE]),
        ([user(image(BLUE), image(BLUE))], [BLUE, BLUE]),
        (
            [
                {"role": "system", "content": "bird"},
                user(image(RED), text("What is this?")),
                {"role": "assistant", "content": "a dog house"},
                user(text("and this?"), image(BLUE)),
            ],
            [RED, BLUE],
        ),
        ([user(text("What is this?"))], []),
    ]


def test_a_reply_is_that_of_the_plain_way(seeing, reference):
    for messages, images in conversations():
        expected = reference(messages, images)
        assert seeing.count_tokens(messages) == expected[1]
        check(seeing.chat(messages, **GREEDY), expected)
        pieces = seeing.stream(messages, **GREEDY)
        assert "".join(pieces) == pieces.reply.text
        check(pieces.reply, expected)


def test_many_at_once_are_what_they_are_one_by_one(seeing, reference):
    pairs = conversations() * 3
    replies = list(seeing.chat_many([messages for messages, _ in pairs], **GREEDY))
    for reply, (messages, images) in zip(replies, pairs, strict=True):
        check(reply, reference(messages, images))


async def test_the_async_twins_see_the_same(seeing, reference):
    for messages, images in conversations()[:3]:
        expected = reference(messages, images)
        check(await seeing.achat(messages, **GREEDY), expected)
        stream = seeing.astream(messages, **GREEDY)
        async for _ in stream:
            pass
        check(stream.reply, expected)
    found = [r async for r in seeing.achat_many([m for m, _ in conversations()], **GREEDY)]
    for reply, (messages, images) in zip(found, conversations(), strict=True):
        check(reply, reference(messages, images))


async def test_the_event_loop_turns_while_an_image_is_read(seeing, monkeypatch):
    from fastinfer.chat import pictures

    real, main = pictures.load_image, threading.get_ident()
    monkeypatch.setattr(pictures, "load_image", lambda s: pytest.fail("in the loop") if threading.get_ident() == main
                        else real(s))  # fmt: skip
    assert (await seeing.achat([user(image(RED))], max_tokens=2)).usage.completion_tokens


def test_the_next_turn_reads_only_what_is_new(seeing, reference):
    first = [user(text("dog cat fish red bird house What is this? " * 3), image(RED), text("?"))]
    reply = seeing.chat(first, **GREEDY)
    second = [*first, {"role": "assistant", "content": "a red bird"}, user(text("and"), image(BLUE))]
    later = seeing.chat(second, **GREEDY)
    check(later, reference(second, [RED, BLUE]))
    assert later.usage.cached_tokens >= reply.usage.prompt_tokens - 3


def test_an_image_is_the_same_whichever_way_it_comes(seeing, tmp_path):
    picture = Image.fromarray(RED)
    file = tmp_path / "red.png"
    picture.save(file)
    data = file.read_bytes()
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    ways = [image(source) for source in (RED, picture, data, bytearray(data), file, str(file), url)]
    ways += [{"type": "image_url", "image_url": {"url": url}}, {"type": "image_url", "image_url": url}]
    replies = [seeing.chat([user(text("What is this?"), way)], **GREEDY) for way in ways]
    assert len({(r.text, r.usage.prompt_tokens) for r in replies}) == 1
    # All but the last token: they are known to be the same.
    assert {r.usage.cached_tokens for r in replies[1:]} == {replies[0].usage.prompt_tokens - 1}


def test_the_orientation_of_a_photo_counts(seeing):
    picture, turned = Image.fromarray(BLUE), io.BytesIO()
    exif = Image.Exif()
    exif[274] = 6
    picture.rotate(90, expand=True).save(turned, "PNG", exif=exif)
    one, other = (seeing.chat([user(image(s))], **GREEDY) for s in (picture, turned.getvalue()))
    assert one.text == other.text


def bad_sources(folder):
    whole = io.BytesIO()
    Image.fromarray(RED).save(whole, "JPEG")
    (folder / "text.png").write_text("no image")
    return [folder / "missing.png", folder / "text.png", b"\x89PNG nothing", whole.getvalue()[:-200], b"",
            np.zeros((4, 4)), np.zeros((0, 4, 3), np.uint8)]  # fmt: skip


async def test_an_image_that_cannot_be_read_is_an_error_and_others_go_on(seeing, tmp_path):
    for source in bad_sources(tmp_path):
        messages = [user(image(RED), text("and"), image(source))]
        for ask in (seeing.chat, seeing.stream, seeing.count_tokens):
            with pytest.raises(ImageDecodeError, match="Image 2 of 2"):
                ask(messages)
        with pytest.raises(ImageDecodeError, match="Image 2 of 2"):
            await seeing.achat(messages)
    good = [user(image(RED), text("What is this?"))]
    alone = seeing.chat(good, **GREEDY).text
    replies = list(seeing.chat_many([good, messages, good, "red"], errors="return", **GREEDY))
    assert [type(r.error) for r in replies] == [type(None), ImageDecodeError, type(None), type(None)]
    assert replies[0].text == replies[2].text == alone


def test_too_many_images_are_a_prompt_that_is_too_long(seeing):
    messages = [user(*[image(plain.draw(64, 64, i)) for i in range(6)] * 60)]
    with pytest.raises(PromptTooLongError) as caught:
        seeing.chat(messages)
    assert caught.value.tokens == seeing.count_tokens(messages) > caught.value.limit


def test_options_hold_for_messages_with_images(seeing):
    messages = [user(image(RED), text("What is this?"))]
    schema = {"type": "object", "properties": {"a": {"enum": ["b", "c"]}}, "required": ["a"]}
    assert seeing.chat(messages, schema=schema, max_tokens=200, temperature=0.0).parsed["a"] in ("b", "c")
    reply = seeing.chat(messages, logprobs=2, repeat_penalty=1.2, repeat_last_n=-1, max_tokens=5, seed=3)
    assert len(reply.logprobs) == reply.usage.completion_tokens
    assert reply.text == seeing.chat(messages, repeat_penalty=1.2, repeat_last_n=-1, max_tokens=5, seed=3).text
    with pytest.raises(RequestTimeoutError):
        seeing.chat(messages, ignore_eos=True, timeout=1e-4)


def test_streams_that_are_closed_early_leave_the_others_alone(seeing, reference):
    messages = [user(*[image(plain.draw(40, 40, i)) for i in range(4)])]
    for after in range(4):
        with seeing.stream(messages, ignore_eos=True, max_tokens=50) as pieces:
            for _ in range(after):
                next(pieces, None)
    expected = reference(conversations()[0][0], [RED])
    check(seeing.chat(conversations()[0][0], **GREEDY), expected)


def test_the_provenance_names_the_projector(seeing, path):
    assert f"images by mmproj-{path.name}" in seeing.provenance.kernel_path


def test_without_a_projector_images_are_refused(path, tmp_path):
    alone = tmp_path / "model.gguf"
    alone.write_bytes(path.read_bytes())
    with fastinfer.llm("embedded", model=alone, chat_template="chatml", **EXACT) as model:
        with pytest.raises(MessageError, match="projector"):
            model.chat([user(image(RED))])
        assert "images" not in model.provenance.kernel_path


# The model that ships.


@pytest.mark.parametrize("name", ["fish.png", "mushroom.jpg", "red-circle.png", "umbrella.png", "3.png", "car.jpg"])
def test_the_embedded_model_names_what_it_sees(embedded, name):
    expected = name.split(".")[0].replace("-", " ")
    reply = embedded.chat([user(image(SAMPLES / name), text("What is this?"))], temperature=0)
    assert reply.text == expected
    assert reply.finish_reason == "stop"


async def test_the_embedded_model_tells_several_people_at_once(embedded):
    names = ["fish.png", "mushroom.jpg", "umbrella.png", "3.png"] * 3
    asks = [embedded.achat([user(image(SAMPLES / n), text("What is this?"))], temperature=0) for n in names]
    replies = await asyncio.gather(*asks)
    assert [r.text for r in replies] == [n.split(".")[0] for n in names]
