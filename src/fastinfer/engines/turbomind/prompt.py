"""The tokens around an image: the model's chat template and tokenizer, applied once for each text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from fastinfer.engines.answers import lead_after
from fastinfer.engines.turbomind.answer_tokens import AnswerTokens
from fastinfer.errors import ModelLoadError, PromptTooLongError
from fastinfer.models import CheckpointInfo
from fastinfer.prompts.sandbox import FAILURES, compile_template, render_template

__all__ = ["PLACES", "Place", "PromptMaker", "PromptTokens", "request_too_long"]

#: Private-use characters that stand for the image and the user's text while a template is rendered.
_IMAGE, _TEXT = "\ue0f0", "\ue0f1"


@dataclass(frozen=True, slots=True)
class Place:
    """What stands in a prompt where an image is.

    Attributes:
        before, after: text around the image's tokens.
        token: the token that is repeated for the image.
    """

    before: str
    token: str
    after: str


_INTERNVL: Final = Place("<img>", "<IMG_CONTEXT>", "</img>\n")
_QWEN: Final = Place("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
#: By the architecture in config.json; as the models' processors and LMDeploy 0.18 write it.
PLACES: Final = {
    "InternVLForConditionalGeneration": _INTERNVL,
    "InternVLChatModel": _INTERNVL,
    "InternS1ForConditionalGeneration": _INTERNVL,
    "Qwen2VLForConditionalGeneration": _QWEN,
    "Qwen2_5_VLForConditionalGeneration": _QWEN,
    "Qwen3_5ForConditionalGeneration": _QWEN,
    "Qwen3_5MoeForConditionalGeneration": _QWEN,
}


def request_too_long(prompt: int, answer: int, limit: int) -> PromptTooLongError:
    """What is raised for a request of so many tokens, its image among those of the prompt."""
    total = prompt + answer
    return PromptTooLongError(
        f"The prompt takes {prompt} tokens with its image and the answer {answer}: {total} of at most {limit}.",
        tokens=total,
        limit=limit,
        hint=f"Raise session_len to {total}, shorten the prompt or the labels in it, or use smaller images.",
    )


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """A prompt around one image.

    Attributes:
        before, after: tokens before and after those of the image.
        image_token: the token that is repeated for the image.
        lead: what an answer starts with: a space where the prompt ends in a word or colon, else nothing.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    image_token: int
    lead: str

    def __len__(self) -> int:
        return len(self.before) + len(self.after)

    def around(self, image_tokens: int) -> list[int]:
        """The whole prompt for an image of so many tokens."""
        return [*self.before, *[self.image_token] * image_tokens, *self.after]


class PromptMaker(AnswerTokens):
    """Renders and tokenizes prompts for one model. Safe from several threads at once is only :meth:`text_of`.

    Args:
        tokenizer: the model's, as Transformers loads it.
        info: the model.

    Raises:
        ModelLoadError: the model has no chat template, one that loses the image or the text, or lacks a token.
    """

    def __init__(self, tokenizer: Any, info: CheckpointInfo) -> None:
        super().__init__(tokenizer, info.end_tokens)
        self._place = PLACES[info.architecture]
        token = tokenizer.convert_tokens_to_ids(self._place.token)
        if token is None or token == tokenizer.unk_token_id:
            raise ModelLoadError(
                f"{info.folder}: the tokenizer has no token {self._place.token}, which stands for an image.",
                hint="Fetch the tokenizer's files again; they may be those of the text model alone.",
            )
        self._token = int(token)
        self._before, self._after = self._template(info)

    def render(self, text: str, opening: str = "") -> PromptTokens:
        """The prompt of one user message: ``opening``, an image, then ``text``.

        Characters of the two texts never become special tokens.
        """
        place = self._place
        if opening:
            before = [*self._special(self._before), *self._continued(opening), *self._special(place.before)]
        else:
            before = self._special(self._before + place.before)
        after = [*self._special(place.after), *self._continued(text), *self._special(self._after)]
        return PromptTokens(tuple(before), tuple(after), self._token, lead_after(self._after))

    def _template(self, info: CheckpointInfo) -> tuple[str, str]:
        content = f"{self._place.before}{_IMAGE}{self._place.after}{_TEXT}"
        variables = {
            **self._tokenizer.special_tokens_map,
            "messages": [{"role": "user", "content": content}],
            "tools": None,
            "documents": None,
            "add_generation_prompt": True,
            "enable_thinking": False,  # or a reasoning model's template opens its reasoning, where no label stands
        }
        try:
            # Not by the tokenizer's own apply_chat_template, which ends no template that goes on for ever.
            rendered = render_template(compile_template(self._tokenizer.get_chat_template()), variables)
        except (*FAILURES, SyntaxError) as error:
            raise ModelLoadError(
                f"{info.folder}: the model's chat template cannot render a message: {error}.",
                hint="Choose an instruction-tuned model, whose tokenizer has a chat template.",
            ) from error
        if any(rendered.count(part) != 1 for part in (content, _IMAGE, _TEXT)):
            raise ModelLoadError(
                f"{info.folder}: the model's chat template loses or changes the image or the text.",
                hint="Choose a model whose chat template writes each message once and unchanged.",
            )
        before, after = rendered.split(content)
        return before, after

    def _special(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids) if text else []
