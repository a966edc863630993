"""A preset: a name, where it is from, and validated parameters for one engine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastinfer.errors import PresetError
from fastinfer.fingerprint import fingerprint
from fastinfer.preset_library.schema import Kind, Parameters
from fastinfer.preset_library.validation import check_kind, nearest, parse_parameters
from fastinfer.showing import Report, Shown

if TYPE_CHECKING:
    from pathlib import Path

    from fastinfer.commands import Command
    from fastinfer.measuring import Receipt
    from fastinfer.preset_library.explanation import Explanation
    from fastinfer.preset_library.translation import Language
    from fastinfer.provenance import Adjustment

__all__ = ["Preset", "changed_fields"]


@dataclass(frozen=True, repr=False)
class Preset(Shown):
    """A named, validated set of parameters. Immutable; get one from :func:`fastinfer.preset`.

    Each parameter is also an attribute: ``preset.n_ctx`` is ``preset.parameters.n_ctx``. Two presets are equal when
    name, kind, summary, source and every parameter are. ``str()`` gives its values as text; notebooks and rich consoles
    show a table.

    Attributes:
        name: the preset's name, ``"prod"`` for example.
        kind: ``"classify"`` or ``"chat"``.
        summary: what the preset is for, one paragraph.
        source: ``"built-in"``, the path of the TOML file or ``"command"``; :meth:`replace` adds the fields it changed.
        parameters: the values, a frozen pydantic model.
        command: the command that :func:`fastinfer.from_command` read it from, with its remarks; None for others.
    """

    name: str
    kind: Kind
    summary: str
    source: str
    parameters: Parameters
    command: Command | None = field(default=None, compare=False)
    _documented: Parameters | None = field(default=None, compare=False)
    _origin: Preset | None = field(default=None, compare=False)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that stand for kind and parameters; neither name nor source is in it.

        They are the first of SHA-256 over canonical JSON, so they are the same on every machine and Python version.
        """
        return fingerprint({"kind": self.kind, "parameters": self.parameters.model_dump()})

    @property
    def documented(self) -> Parameters:
        """The parameters this preset started from: those of the built-in preset it extends, else its own as loaded."""
        origin = self._origin or self
        return origin._documented or origin.parameters

    @property
    def replaced(self) -> tuple[str, ...]:
        """The fields that :meth:`replace` has changed since the preset was loaded, in the preset's order."""
        if self._origin is None:
            return ()
        return changed_fields(self.parameters, since=self._origin.parameters)

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """What the preset was measured at: those of the built-in preset it is or was made from, and of equal ones."""
        from fastinfer.preset_library.receipts import receipts_of

        return receipts_of(self)

    def replace(self, **changes: object) -> Preset:
        """A new preset with some parameters changed and all of them validated again.

        Args:
            **changes: the new value of each field to change.

        Raises:
            PresetError: a field does not exist (the nearest right name is given), has the wrong type, or is outside
                its legal range; or two fields contradict each other.
        """
        parameters = parse_parameters(
            self.kind, {**self.parameters.model_dump(), **changes}, where=f"{self.kind} preset {self.name!r}"
        )
        origin = self._origin or self
        changed = changed_fields(parameters, since=origin.parameters)
        if not changed:
            return origin
        return Preset(
            name=self.name,
            kind=self.kind,
            summary=self.summary,
            source=f"{origin.source}, replaced: {', '.join(changed)}",
            parameters=parameters,
            command=origin.command,
            _origin=origin,
        )

    def explain(self, adjustments: Iterable[Adjustment] = (), *, lang: Language = "en") -> Explanation:
        """Every parameter with its value, effect, cost and when to change it.

        The result prints as text, shows as a table in a notebook or a rich console, and has its rows as data.

        Args:
            adjustments: differences between the preset and what an engine got, from a result's provenance.
            lang: ``"en"``, English, or ``"vi"``, Vietnamese. In Vietnamese too, what is only known at run time is
                English: the reasons of adjustments, the remarks on a command, receipts, and the summary of a preset
                that is not built in, which is shown as it was written.

        Raises:
            PresetError: the presets are not explained in that language.
        """
        from fastinfer.preset_library.explanation import explain

        return explain(self, tuple(adjustments), lang)

    def build(self, model: str | os.PathLike[str] | None = None) -> Any:
        """The engine's own objects with the preset's values, to be used by the engine's own API.

        A preset of llama.cpp gives a ready ``llama_cpp.Llama``, which the caller closes. It has n_ctx, n_batch,
        n_ubatch, n_threads (0 becomes every usable core), n_gpu_layers, flash_attn, type_k and type_v of the preset.
        ``device`` becomes ``main_gpu`` with the model on that GPU alone; ``"CPU"`` keeps all layers off any GPU.
        ``chat_template`` becomes its chat handler, and so does the image encoder (mmproj) of a preset of kind
        "classify". It prints nothing; llama.cpp's log goes to the logger ``fastinfer.llama``.

        ``Llama`` has one conversation and no queue, so parallel, kv_unified, cache_reuse, prefill_budget, prefill_delay
        and max_queue have no place in it, nor have the prompts, workers and batches of classification. The sampling
        values belong to its calls: ``llama.create_chat_completion(messages, temperature=preset.temperature,
        top_p=preset.top_p, top_k=preset.top_k, min_p=preset.min_p, repeat_penalty=preset.repeat_penalty)``.

        A preset of TurboMind gives ``(TurbomindEngineConfig, VisionConfig)`` of LMDeploy, for its ``pipeline`` with
        ``backend_config`` and ``vision_config``. No model is loaded or fetched; one that is a folder on this machine is
        looked at for what TurboMind would need otherwise. With several replicas in ``devices`` they are those of the
        first. What each field becomes is in :data:`fastinfer.engines.turbomind.flags.FLAGS`.

        Args:
            model: a path, or a name on the Hugging Face hub: for llama.cpp ``"org/repo:QUANT@revision"`` of a GGUF
                file, for TurboMind ``"org/repo@revision"``; None takes the environment's, then the preset's own.

        Raises:
            EngineUnavailableError: the preset's device is not there; llama.cpp is missing or was built without GPU
                support that the preset asks for; or LMDeploy is missing or of another version than 0.18.
            ModelNotFoundError: there is no such model.
            ModelLoadError: the model's files are damaged or incomplete, llama.cpp cannot load them, or the model has no
                chat template and the preset names none.
            EngineOutOfMemoryError: there is not enough memory.
            PresetError: there is no such ``chat_template``.
        """
        from fastinfer.preset_library.building import build

        return build(self, model)

    def to_command(self, *, program: str | None = None) -> str:
        """The command that runs a server with the preset's values: ``llama-server``, ``lmdeploy serve api_server``.

        A preset from :func:`fastinfer.from_command` gives that command again, on one line and with a variable's name in
        the place of each secret; values that :meth:`replace` changed are changed in place, new flags come last. Other
        presets give the documented long flags in the order of their fields. Every layer is ``--gpu-layers 999``, every
        core ``--threads $(nproc)``.

        Fields that no flag of the server fills are left out: prompts, workers, queues. The model is written as the
        preset names it; llama-server knows neither ``@revision`` nor the names embedded and embedded-chat. It also has
        no word for repeat_last_n -1, the whole context, and gets n_ctx. Of a classification preset of llama.cpp it
        finds the image encoder beside the model by itself, where the model is from the hub.

        Args:
            program: what starts the server, ``"./build/bin/llama-server"`` for example; None for its name, or for what
                the command had.

        Raises:
            PresetError: ``program`` does not start the preset's server, or a value cannot be said to it, such as a
                ``chat_template`` that is neither a template's name, nor Jinja, nor a .jinja file.
        """
        from fastinfer.commands.conversion import to_command

        return to_command(self, program)

    def save(
        self, path: str | os.PathLike[str] | None = None, *, name: str | None = None, overwrite: bool = False
    ) -> Path:
        """Write the preset into a preset file; see :func:`fastinfer.preset_library.save_preset`."""
        from fastinfer.preset_library.saving import save_preset

        return save_preset(self, path, name=name, overwrite=overwrite)

    def to_dict(self) -> dict[str, Any]:
        """The preset as plain values that JSON can hold; :meth:`from_dict` reads it back.

        ``"command"`` is among them only where the preset was read from one.
        """
        return {
            "name": self.name,
            "kind": self.kind,
            "summary": self.summary,
            "source": self.source,
            "fingerprint": self.fingerprint,
            "parameters": self.parameters.model_dump(),
            **({} if self.command is None else {"command": self.command.to_dict()}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Preset:
        """The preset that :meth:`to_dict` wrote, validated again.

        Raises:
            PresetError: a key is missing or a parameter is not legal.
        """
        missing = [key for key in ("name", "kind", "summary", "source", "parameters") if key not in data]
        if missing:
            raise PresetError(
                f"A preset cannot be read: {', '.join(missing)} missing.", hint="Give what Preset.to_dict() returned."
            )
        from fastinfer.commands.command import Command

        kind = check_kind(data["kind"])
        return cls(
            name=data["name"],
            kind=kind,
            summary=data["summary"],
            source=data["source"],
            parameters=parse_parameters(kind, data["parameters"], where=f"{kind} preset {data['name']!r}"),
            command=Command.from_dict(data["command"]) if data.get("command") else None,
        )

    def __getattr__(self, name: str) -> Any:
        # Reached only for what is no attribute of the preset itself. While a copy is being rebuilt there are no
        # parameters yet, and looking them up here would not end.
        parameters = self.__dict__.get("parameters")
        if parameters is not None and name in type(parameters).model_fields:
            return getattr(parameters, name)
        known = () if parameters is None else nearest(name, type(parameters).model_fields)
        hint = f"; did you mean {known[0]}?" if known else ""
        raise AttributeError(f"a preset has no attribute or parameter {name!r}{hint}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *type(self.parameters).model_fields]

    def __repr__(self) -> str:
        parameters = self.parameters
        return (
            f"<Preset {self.kind} {self.name!r} ({self.source}): {parameters.backend}, {parameters.model!r}, "
            f"fingerprint {self.fingerprint}>"
        )

    def _report(self) -> Report:
        from fastinfer.preset_library.report import report

        return report(self)


def changed_fields(parameters: Parameters, *, since: Parameters) -> tuple[str, ...]:
    """The fields that differ from others of the same kind and engine, in the preset's order."""
    return tuple(name for name, value in parameters if value != getattr(since, name))
