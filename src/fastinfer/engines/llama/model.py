"""Weights and vocabulary of a GGUF model."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import TemplateError
from jinja2.exceptions import SecurityError

from fastinfer.engines.answers import lead_after
from fastinfer.engines.llama.binding import llama
from fastinfer.errors import ModelLoadError
from fastinfer.prompts.sandbox import FAILURES, compile_template, render_template

__all__ = ["LlamaModel", "RenderedPrompt"]

#: Private-use characters that stand for the image and the user's texts while a template is rendered.
_IMAGE, _TEXT, _OPENING = "\ue0f0", "\ue0f1", "\ue0f2"


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A chat prompt around one image and one text.

    Attributes:
        parts: pieces in order; ``True`` marks template text, whose special tokens are parsed, ``False`` the user's
            text, which never becomes special tokens. The image is the piece with text None.
        lead: what an answer starts with: a space where the prompt ends in a word or colon, else nothing.
    """

    parts: tuple[tuple[str | None, bool], ...]
    lead: str


class LlamaModel:
    """A loaded model; shared by contexts, freed by :meth:`close` after them.

    Args:
        path: the GGUF file.
        n_gpu_layers: layers to keep on the GPU; 0 none, -1 all.
        main_gpu: the only GPU to use, by llama.cpp's number; -1 none of them, None all that there are.
        weights: False reads the header alone, for contexts that allocate and compute nothing. The file's data may then
            be a hole, and the vocabulary is not there but for its size.

    Raises:
        ModelLoadError: llama.cpp cannot load the file.
    """

    def __init__(self, path: Path, *, n_gpu_layers: int = 0, main_gpu: int | None = None, weights: bool = True) -> None:
        params = llama.llama_model_default_params()
        if not weights:
            # llama.cpp ends the process where such a model is to be mapped into memory.
            params.no_alloc, params.load_mode = True, llama.LLAMA_LOAD_MODE_NONE
        params.n_gpu_layers = 2**31 - 1 if n_gpu_layers < 0 else n_gpu_layers
        if main_gpu is not None:
            params.split_mode, params.main_gpu = llama.LLAMA_SPLIT_MODE_NONE, main_gpu
        self.handle: Any = llama.llama_model_load_from_file(str(path).encode(), params)
        if not self.handle:
            raise ModelLoadError(
                f"llama.cpp cannot load {path.name}.",
                hint="The logger 'fastinfer.llama' says why; the architecture may be newer than the installed "
                "llama-cpp-python.",
            )
        self.embedding_width = int(llama.llama_model_n_embd_inp(self.handle))
        if weights:
            self._read_vocabulary()
        else:
            self._find_vocabulary()

    def _find_vocabulary(self) -> None:
        #: llama.cpp's vocabulary, freed with the model.
        self.vocabulary_handle: Any = llama.llama_model_get_vocab(self.handle)
        self.vocabulary_size = int(llama.llama_vocab_n_tokens(self.vocabulary_handle))

    def _read_vocabulary(self) -> None:
        self._find_vocabulary()
        ends = [t for t in range(self.vocabulary_size) if llama.llama_vocab_is_eog(self.vocabulary_handle, t)]
        self.end_tokens: npt.NDArray[np.int64] = np.array(ends, dtype=np.int64)
        # Some tokenizers put a space before any text, which is wrong for text that continues another one.
        first = self._tokens("a", special=False)
        self._anchor = "\n" if first and self.piece(first[0]).startswith(b" ") else ""

    def close(self) -> None:
        """Free the weights. Idempotent."""
        if self.handle:
            llama.llama_model_free(self.handle)
            self.handle = None

    def tokenize(self, text: str, *, special: bool = False, continues: bool = True) -> list[int]:
        """The tokens of a text; neither BOS nor EOS is added.

        Args:
            text: any text that UTF-8 can encode; NUL is a character like others.
            special: texts of control tokens become these tokens; those of user-defined tokens always do.
            continues: other text comes before it, so that a tokenizer's space at the beginning is left out.
        """
        if continues and self._anchor:
            return self._tokens(self._anchor + text, special)[len(self._tokens(self._anchor, special)) :]
        return self._tokens(text, special)

    def _tokens(self, text: str, special: bool) -> list[int]:
        data = text.encode()
        room = len(data) + 8
        tokens = (ctypes.c_int32 * room)()
        count = llama.llama_tokenize(self.vocabulary_handle, data, len(data), tokens, room, False, special)
        if count < 0:
            raise RuntimeError(f"llama_tokenize asked for {-count} tokens where {room} must be enough")
        return tokens[:count]

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of one token; control and unknown tokens have none unless ``special``."""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = llama.llama_token_to_piece(self.vocabulary_handle, token, buffer, size, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def text_of(self, token: int) -> str:
        """What stands for a token in a prompt; "" for -1, which is none."""
        if token < 0:
            return ""
        return str(llama.llama_vocab_get_text(self.vocabulary_handle, token).decode("utf-8", "replace"))

    def render(self, text: str, opening: str = "") -> RenderedPrompt:
        """The model's chat template around one user message: ``opening``, an image, then ``text``.

        Raises:
            ModelLoadError: the model has no chat template, or one that loses the image or the text.
        """
        source = llama.llama_model_chat_template(self.handle, None)
        if not source:
            raise ModelLoadError("The model has no chat template.", hint="Choose an instruction-tuned model.")
        bos = self.text_of(llama.llama_vocab_bos(self.vocabulary_handle))
        try:
            template = compile_template(source.decode("utf-8", "replace"))
        except (TemplateError, RecursionError, MemoryError, SyntaxError, ValueError) as error:
            raise ModelLoadError(f"The model's chat template is no Jinja template: {error}.") from error
        variables: dict[str, Any] = {
            "bos_token": bos,
            "eos_token": self.text_of(llama.llama_vocab_eos(self.vocabulary_handle)),
            "add_generation_prompt": True,
            **dict.fromkeys(("functions", "function_call", "tools", "tool_choice")),
        }
        content = f"{_OPENING if opening else ''}{_IMAGE}\n{_TEXT}"
        # Templates take the content as a string or as a list of parts; each kind fails on the other in its own way.
        for form in (content, [{"type": "text", "text": content}]):
            try:
                prompt = render_template(template, {"messages": [{"role": "user", "content": form}], **variables})
            except SecurityError as error:
                raise ModelLoadError(
                    f"The model's chat template goes too far: {error}.",
                    hint="It may be made to do harm: choose a model from someone you trust.",
                ) from error
            except FAILURES as error:
                cause: Exception | None = error
                continue
            if prompt.count(_IMAGE) == 1 and prompt.count(_TEXT) == 1 and prompt.count(_OPENING) == bool(opening):
                # Where the tokenizer adds the first token by itself, the template must not add it again.
                twice = bool(bos) and llama.llama_vocab_get_add_bos(self.vocabulary_handle)
                return _split(prompt.removeprefix(bos) if twice else prompt, text, opening)
            cause = None
        raise ModelLoadError("The model's chat template cannot take an image and a text.") from cause


def _split(prompt: str, text: str, opening: str) -> RenderedPrompt:
    lead_in, rest = prompt.split(_IMAGE)
    before, _, near = lead_in.partition(_OPENING)
    between, after = rest.split(_TEXT)
    parts: list[tuple[str | None, bool]] = [
        (before, True), (opening + near, False), (None, True), (between + text, False), (after, True),
    ]  # fmt: skip
    return RenderedPrompt(tuple(p for p in parts if p[0] != ""), lead_after(after))
