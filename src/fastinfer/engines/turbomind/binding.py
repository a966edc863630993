"""The one place that touches TurboMind's internal Python API.

Written against LMDeploy 0.18. :func:`open_model` checks the version and every name that is used. The way in is the
class ``TurboMind`` and the request handles below it, without ``lmdeploy.pipeline``: no event loop, no preprocessing in
one thread, no hash of all pixels, and no fallback to another engine, because only TurboMind is ever built.
"""

from __future__ import annotations

import gc
import inspect
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastinfer.engines.turbomind.importing import INSTALL_SUPPORTED, import_lmdeploy
from fastinfer.errors import EngineError, EngineUnavailableError, ModelLoadError
from fastinfer.images.prepared import PreparedImage

__all__ = ["FINISHED", "Outcome", "Picture", "Ticket", "TurboMindModel", "missing_names", "open_model"]

# lmdeploy/turbomind/turbomind.py: status codes of a request, from csrc/turbomind/engine/request.h.
FINISHED: Final = 7
_CANCELLED: Final = 8
_MEANINGS: Final = {
    1: "the session does not exist",
    2: "the session exists twice",
    5: "an internal error",
    6: "the prompt is longer than the engine's session",
    9: "the prefix cache refused the request",
    10: "no queue takes it",
    11: "the cache has no room for it",
}
#: TurboMind compares fingerprints of images in its prefix cache, SHA-256 digests where LMDeploy makes them.
_FINGERPRINT_BYTES: Final = 32
_GENERATION: Final = 2  # rows of generated tokens only; 1 would be those of the prompt too


@dataclass(frozen=True, slots=True)
class Picture:
    """A prepared image at its place in a prompt.

    Attributes:
        pixels: a torch tensor, as TurboMind's vision encoder takes it.
        grid: (time, height, width) in patches where the model needs it.
        offset: prompt tokens before the image.
        tokens: tokens of the image.
        fingerprint: equal for requests with the same image, different for any other.
    """

    pixels: Any
    grid: tuple[int, int, int] | None
    offset: int
    tokens: int
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request gave.

    Attributes:
        tokens: the generated tokens, the one that ended the answer included.
        rows: what each of them was drawn from: a torch tensor on the CPU, (tokens, hidden size or vocabulary).
    """

    tokens: list[int]
    rows: Any


class Ticket:
    """A request that is being computed.

    Args:
        handle: TurboMind's handle of it.
        prompt_tokens: length of its prompt.
    """

    __slots__ = ("handle", "outputs", "prompt_tokens", "state", "subject")

    def __init__(self, handle: Any, prompt_tokens: int, subject: Any) -> None:
        self.handle, self.prompt_tokens, self.subject = handle, prompt_tokens, subject
        self.outputs: Any = None
        self.state: Any = None


class TurboMindModel:
    """A model loaded into TurboMind. One thread at a time may call it; callbacks come from TurboMind's own thread.

    Attributes:
        dtype: ``"bfloat16"`` or ``"float16"``, what TurboMind computes text in.
        pixel_dtype: the same for images; a quantised model may have them different.
        vocabulary: rows of the output matrix.
        tokenizer: Transformers' tokenizer of the model.
        version: LMDeploy's.
    """

    def __init__(self, engine: Any, module: Any, torch: Any, version: str, *, hidden_rows: bool) -> None:
        self._engine, self._tm, self._torch = engine, module, torch
        self._rows = "last_hidden_state" if hidden_rows else "logits"
        self._handles: list[Any] = []
        self._generations: dict[tuple[int, tuple[int, ...]], Any] = {}
        self._sessions = itertools.count(1)
        self._images = itertools.count(1)
        self._salt = os.urandom(_FINGERPRINT_BYTES - 8)
        encoder = getattr(engine.source_model, "_vision_data_type", None)
        types = {module.DataType.TYPE_BF16: "bfloat16", module.DataType.TYPE_FP16: "float16"}
        self.pixel_dtype: str = types.get(encoder, engine.engine_config.dtype)
        self._pixel_type = getattr(torch, self.pixel_dtype)
        self.dtype: str = engine.engine_config.dtype
        self.vocabulary = int(engine._vocab_size)
        self.tokenizer: Any = engine.tokenizer.model.model
        self.version = version

    def picture(self, image: PreparedImage, offset: int) -> Picture:
        """An image at its place in a prompt. Safe from any thread."""
        pixels = self._torch.from_numpy(image.data.view("int16")).view(self._pixel_type)
        fingerprint = self._salt + next(self._images).to_bytes(8, "little")
        return Picture(pixels, image.grid, offset, image.tokens, fingerprint)

    def submit(
        self,
        tokens: Sequence[int],
        picture: Picture,
        *,
        most_tokens: int,
        end_tokens: Sequence[int],
        subject: Any,
        done: Callable[[Ticket], None],
    ) -> Ticket:
        """Queue a request.

        Args:
            tokens: the prompt, the image's tokens included.
            picture: the image.
            most_tokens: generate at most so many tokens, the likeliest each time; at least 1.
            end_tokens: tokens that end the answer before that; none to go on to the end.
            subject: kept on the ticket for the caller.
            done: called from TurboMind's thread, also more than once, when there may be something to collect.
        """
        handle = self._handles.pop() if self._handles else self._engine.model_comm.create_request()
        ticket = Ticket(handle, len(tokens), subject)
        inputs = self._tm.TensorMap()
        inputs["input_ids"] = self._tm.from_dlpack(self._torch.tensor(tokens, dtype=self._torch.int32))
        multimodal = {
            "modality": "image",
            "pixel_values": picture.pixels,
            "offset": picture.offset,
            "image_tokens": picture.tokens,
            "fingerprint": picture.fingerprint,
        }
        if picture.grid is not None:
            # LMDeploy's parsers of the Qwen families take where an image begins and ends.
            multimodal["image_grid_thw"] = picture.grid
            multimodal["offset"] = (picture.offset, picture.offset + picture.tokens)
        session = self._tm.SessionParam(id=next(self._sessions), step=0)
        ticket.outputs, ticket.state, _ = handle.forward(
            inputs,
            self._engine.mm_input_converter([multimodal]),
            session,
            self._generation(most_tokens, end_tokens),
            False,
            False,
            lambda: done(ticket),
        )
        return ticket

    def collect(self, ticket: Ticket) -> Outcome | EngineError | None:
        """What a request gave, the error that ended it, or None while it is being computed."""
        state = ticket.state.consume()
        if state is None or state.status == 0:
            return None
        outputs, ticket.outputs, ticket.state = ticket.outputs, None, None
        self._handles.append(ticket.handle)
        if state.status == FINISHED:
            count = state.seq_len - ticket.prompt_tokens
            made = self._tensor(outputs, "output_ids")[ticket.prompt_tokens : state.seq_len].tolist()
            # Copied, because the handle's next request may write to the same place.
            return Outcome(made, self._tensor(outputs, self._rows)[:count].clone())
        if state.status == _CANCELLED:
            return EngineError("The request was cancelled in the engine.")
        meaning = _MEANINGS.get(state.status, f"status {state.status}")
        return EngineError(
            f"TurboMind failed a request: {meaning}.",
            hint="Raise cache_max_entry_count or lower max_batch_size if this repeats.",
        )

    def cancel(self, ticket: Ticket) -> None:
        """Ask TurboMind to give a request up; it is collected as usual."""
        ticket.handle.cancel()

    def close(self) -> None:
        """Free everything. No request may be left in the engine. Idempotent."""
        engine, self._engine = self._engine, None
        if engine is None:
            return
        self._handles.clear()
        self.tokenizer = None
        engine.close()
        del engine
        # The weights hang in reference cycles of LMDeploy's loader, and torch keeps what it once allocated.
        gc.collect()
        self._torch.cuda.empty_cache()

    def _tensor(self, outputs: Any, name: str) -> Any:
        return self._torch.from_dlpack(outputs[name])

    def _generation(self, most_tokens: int, end_tokens: Sequence[int]) -> Any:
        """The configuration of a request; one serves all requests that ask for the same, as TurboMind copies it."""
        found = self._generations.get((most_tokens, tuple(end_tokens)))
        if found is not None:
            return found
        made = self._tm.GenerationConfig()
        made.max_new_tokens = most_tokens
        made.top_k, made.top_p, made.min_p, made.temperature = 1, 1.0, 0.0, 1.0
        made.repetition_penalty = 1.0
        if end_tokens:
            made.eos_ids = list(end_tokens)
            # Words of one token each: the tokens, then where each word ends.
            made.stop_ids = [list(end_tokens), list(range(1, len(end_tokens) + 1))]
        if self._rows == "logits":
            made.output_logits = _GENERATION
        else:
            made.output_last_hidden_state = _GENERATION
        self._generations[most_tokens, tuple(end_tokens)] = made
        return made


def open_model(folder: Path, config: Any, *, trust_remote_code: bool, hidden_rows: bool) -> TurboMindModel:
    """Load a model; it takes seconds and gigabytes.

    Args:
        folder: the checkpoint.
        config: LMDeploy's TurbomindEngineConfig. What TurboMind ends the process on must not be in it.
        trust_remote_code: run Python code that comes with the checkpoint.
        hidden_rows: give the hidden state that each token was drawn from, else its scores (logits) in 16 bits.

    Raises:
        EngineUnavailableError: TurboMind cannot run here, or is another version than this module was written for.
        ModelLoadError: the checkpoint cannot be loaded.
    """
    lmdeploy = import_lmdeploy()
    import torch
    from lmdeploy import turbomind

    if not turbomind.is_available():
        cause = turbomind._import_error
        raise EngineUnavailableError(
            f"TurboMind's compiled library cannot be loaded: {cause}.",
            hint="Install LMDeploy with its CUDA libraries: pip install 'fastinfer[turbomind]'.",
        ) from cause
    if missing := missing_names(turbomind):
        raise EngineUnavailableError(
            f"LMDeploy {lmdeploy.__version__} lacks what fastinfer uses of TurboMind: {', '.join(missing)}.",
            hint=f"Install the version it was written for: {INSTALL_SUPPORTED}.",
        )
    try:
        engine = turbomind.TurboMind.from_pretrained(
            str(folder), engine_config=config, trust_remote_code=trust_remote_code
        )
    except Exception as error:  # LMDeploy's loaders raise whatever the checkpoint makes them stumble on
        raise ModelLoadError(
            f"TurboMind cannot load {folder}: {type(error).__name__}: {error}",
            hint="Check that the folder is complete and its architecture one that TurboMind knows.",
        ) from error
    return TurboMindModel(engine, turbomind._tm, torch, str(lmdeploy.__version__), hidden_rows=hidden_rows)


def missing_names(turbomind: Any) -> list[str]:
    """What this module uses and the installed ``lmdeploy.turbomind`` has not, or has in another form."""
    missing = [name for name in _MODULE_NAMES if not hasattr(turbomind._tm, name)]
    for name, parameters in _METHODS.items():
        method = getattr(turbomind.TurboMind, name, None)
        if method is None or not set(parameters) <= set(inspect.signature(method).parameters):
            missing.append(f"TurboMind.{name}({', '.join(parameters)})")
    fields = dir(getattr(turbomind._tm, "GenerationConfig", None))
    missing += [f"GenerationConfig.{name}" for name in _GENERATION_FIELDS if name not in fields]
    return missing


_MODULE_NAMES: Final = ("DataType", "GenerationConfig", "SessionParam", "TensorMap", "from_dlpack", "multimodal")
_METHODS: Final = {
    "from_pretrained": ("pretrained_model_name_or_path", "engine_config", "trust_remote_code"),
    "mm_input_converter": ("multimodal",),
    "close": (),
}
_GENERATION_FIELDS: Final = (
    "eos_ids", "max_new_tokens", "min_p", "output_last_hidden_state", "output_logits", "repetition_penalty",
    "stop_ids", "temperature", "top_k", "top_p",
)  # fmt: skip
