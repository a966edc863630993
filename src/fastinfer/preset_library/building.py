"""From a preset to the engine's own object."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from fastinfer.errors import FastInferError
from fastinfer.preset_library.models import default_model
from fastinfer.preset_library.preset import Preset
from fastinfer.preset_library.schema import LlamaChatParameters, TurbomindClassifyParameters

if TYPE_CHECKING:
    from fastinfer.engines.llama.binding import Llama
    from fastinfer.prompts import ChatTemplate

__all__ = ["build"]

_OWN: Final = "auto"


def build(preset: Preset, model: str | os.PathLike[str] | None = None) -> Any:
    """The bare engine of a preset; see :meth:`fastinfer.preset_library.Preset.build`."""
    name, _ = default_model(preset.kind, preset, model)
    parameters = preset.parameters
    if isinstance(parameters, TurbomindClassifyParameters):
        return _turbomind(parameters, name)

    # Imported here so that llama.cpp is loaded with the first engine and not with the presets.
    from fastinfer.engines.cores import usable_cores
    from fastinfer.engines.llama.bare import bare_llama
    from fastinfer.engines.llama.devices import placement
    from fastinfer.models import EMBEDDED_CHAT, resolve_gguf, without_projector

    device, template = None, _OWN
    if isinstance(parameters, LlamaChatParameters):
        device, template = parameters.device, parameters.chat_template
    # What can be refused is refused before many gigabytes are fetched.
    on = placement(device, parameters.n_gpu_layers)
    if template != _OWN:
        _find(template)
    files = resolve_gguf(name)
    if template == _OWN and files.name == EMBEDDED_CHAT:
        template = "transcript"  # a base model, without a template of its own
    sees = preset.kind == "classify"
    if sees and files.projector is None:
        raise without_projector(files.name)
    engine = bare_llama(
        files.model,
        projector=files.projector if sees else None,
        on=on,
        n_ctx=parameters.n_ctx,
        n_batch=parameters.n_batch,
        n_ubatch=parameters.n_ubatch,
        n_threads=parameters.n_threads or usable_cores(),
        flash_attn=parameters.flash_attn,
        type_k=parameters.type_k,
        type_v=parameters.type_v,
    )
    if not sees:
        try:
            _set_template(engine, template)
        except FastInferError:
            engine.close()
            raise
    return engine


def _turbomind(parameters: TurbomindClassifyParameters, name: str) -> tuple[Any, Any]:
    from fastinfer.engines.turbomind.configs import engine_config, vision_config
    from fastinfer.engines.turbomind.settings import effective_settings, replica_devices
    from fastinfer.models import describe_checkpoint, resolve_checkpoint
    from fastinfer.models.local import existing_path

    # A configuration is no reason to fetch many gigabytes: a model of the hub is not looked at.
    here = existing_path(name) is not None
    info = describe_checkpoint(resolve_checkpoint(name).folder) if here else None
    settings, _ = effective_settings(parameters, info, devices=replica_devices(parameters)[0])
    return engine_config(settings), vision_config(settings)


def _set_template(engine: Llama, name: str) -> None:
    from fastinfer.engines.llama.bare import set_template

    if name == _OWN and "tokenizer.chat_template" in engine.metadata:
        return  # Llama uses it by itself
    template = _find(name, engine)
    set_template(engine, template.render, template.stop)


def _find(name: str, engine: Llama | None = None) -> ChatTemplate:
    from fastinfer.engines.llama.bare import ModelTexts
    from fastinfer.prompts import find_template

    return find_template(name, ModelTexts(engine))  # type: ignore[arg-type]  # as much of a vocabulary as it asks for
