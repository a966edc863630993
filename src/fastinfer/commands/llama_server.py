"""A line for ``llama-server`` to the values of a chat preset, and a preset's values to its flags."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any, Final

from fastinfer.commands.flags import server_of
from fastinfer.commands.line import Line, Option
from fastinfer.commands.reading import Reader, Reading, number, text, whole
from fastinfer.commands.words import CORES, quoted
from fastinfer.errors import PresetError
from fastinfer.models.filenames import is_gguf, quantisation
from fastinfer.models.hub_name import HubName

__all__ = ["equivalent", "read", "written"]

_ON: Final = frozenset({"on", "enabled", "true", "1"})  # common/arg.cpp: is_truthy, is_falsey, is_autoy
_OFF: Final = frozenset({"off", "disabled", "false", "0"})
_AUTO: Final = frozenset({"auto", "-1"})
_EVERY_LAYER: Final = 999
_QUANTISED: Final = "q"
#: Templates that llama-server has too, under the same name, but only without Jinja.
_WITHOUT_JINJA: Final = ("chatml", "seed_oss")
_TRANSCRIPT: Final = "transcript"  # for base models; llama-server has no such template, and gets it as Jinja


def read(line: Line) -> Reading:
    """The values that a command gives a chat preset.

    Raises:
        PresetError: a value is not legal, or two flags contradict each other.
    """
    reader = Reader(line)
    reader.convert(_CONVERTED)
    _read_model(reader)
    _read_slots(reader)
    _read_sizes(reader)
    _read_attention(reader)
    _read_device(reader)
    _read_template(reader)
    on_cpu = reader["device"] == "CPU"
    automatic = reader.last("--parallel") is not None
    return reader.finish(unless={"n_gpu_layers": on_cpu, "device": on_cpu, "parallel": automatic})


def written(field: str, values: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The flags that give a field its value, each with its values as words of a shell.

    Args:
        field: a field that a flag of llama-server fills.
        values: every field of the preset.
    """
    value = values[field]
    if field == "model":
        on_hub = HubName.parse(value) is not None and not is_gguf(value)
        return [("--hf-repo" if on_hub else "--model", quoted(value))]
    if field == "kv_unified":
        return [("--kv-unified" if value else "--no-kv-unified",)]
    if field == "chat_template":
        return _written_template(value)
    if field == "flash_attn":
        value = "on" if value else "off"
    elif field == "device":
        value = "none" if value == "CPU" else value
    elif (field, value) in _SPECIAL:
        value = _SPECIAL[field, value]
    return [(server_of("llama.cpp").spelling(field), quoted(str(value)))]


def equivalent(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a preset, those that llama-server has no other word for replaced by what means the same."""
    same = dict(values)
    if same["n_gpu_layers"] == _EVERY_LAYER:
        same["n_gpu_layers"] = -1
    if same.get("repeat_last_n") == -1:
        same["repeat_last_n"] = same["n_ctx"]
    if same.get("device", "").lower() in ("cpu", "none"):
        same["device"] = "CPU"
    return same


_SPECIAL: Final[Mapping[tuple[str, object], object]] = {
    ("n_threads", 0): CORES,
    ("n_gpu_layers", -1): _EVERY_LAYER,
    ("max_tokens", 0): -1,
}


def _layers(option: Option) -> int:
    if option.value in ("auto", "all"):
        return -1
    count = whole(option)
    return -1 if count < 0 or count == _EVERY_LAYER else count


def _threads(option: Option) -> int:
    return 0 if option.value == CORES else max(whole(option), 0)


def _temperature(option: Option) -> float:
    return max(number(option), 0.0)


def _top_k(option: Option) -> int:
    return max(whole(option), 0)


def _not_negative(option: Option) -> int:
    count = whole(option)
    if count < 0:
        raise PresetError(f"{option.name}: llama-server takes no number below 0.", hint="0 turns it off.")
    return count


def _longest_reply(option: Option) -> int:
    count = whole(option)
    if count == 0 or count < -1:
        raise PresetError(
            f"{option.name}: {count} leaves no reply.", hint="Give a number of tokens, or -1 for no limit."
        )
    return 0 if count == -1 else count


_CONVERTED: Final[Mapping[str, Callable[[Option], object]]] = {
    "n_threads": _threads,
    "n_gpu_layers": _layers,
    "type_k": text,
    "type_v": text,
    "cache_reuse": whole,
    "temperature": _temperature,
    "top_p": number,
    "top_k": _top_k,
    "min_p": number,
    "repeat_last_n": _not_negative,
    "repeat_penalty": number,
    "frequency_penalty": number,
    "presence_penalty": number,
    "max_tokens": _longest_reply,
}


def _read_model(reader: Reader) -> None:
    path, repo, file = reader.last("--model"), reader.last("--hf-repo"), reader.last("--hf-file")
    if repo is None:
        if file is not None:
            raise PresetError(f"{file.name} names a file of no repository.", hint="Add -hf with org/repo.")
        if path is not None:
            reader.put("model", path.value, path)
        return
    name = HubName.parse(repo.value)
    if name is None:
        raise PresetError(
            f"{repo.name}: {repo.value!r:.100} is no org/repo or org/repo:QUANT.", hint="Correct the name."
        )
    if file is not None:
        quant = quantisation(file.value)
        if quant is None:
            raise PresetError(
                f"{file.name}: {file.value!r:.100} does not end with the name of a quantisation.",
                hint="Download the file, and give its path with -m.",
            )
        reader.remark(file, f"A preset names the quantisation and not the file: {name.repo}:{quant}.")
        name = HubName(name.repo, quant, name.revision)
    if path is not None:
        reader.remark(path, f"llama-server loads what {repo.name} names when both are given.")
    reader.put("model", str(name), repo)


def _read_slots(reader: Reader) -> None:
    """Slots and whether they share a KV cache (tools/server/server.cpp: 4 that do, unless a number is given)."""
    slots, shared = reader.last("--parallel"), reader.last("--kv-unified")
    count = -1 if slots is None else whole(slots)
    if slots is not None and count >= 0:
        reader.put("parallel", count, slots)
        reader.put("kv_unified", shared is not None and shared.on)
        return
    if slots is not None:
        reader.remark(slots, "llama-server takes 4 slots that share one KV cache, and so does the preset.")
    if shared is not None and not shared.on:
        reader.remark(shared, "Without --parallel llama-server has its slots share one KV cache whatever this says.")


def _read_sizes(reader: Reader) -> None:
    """Context and batches; what is too large is cut as llama.cpp cuts it (src/llama-context.cpp)."""
    context, share = reader.last("--ctx-size"), reader.last("--kv-unified-per-slot")
    if context is not None and whole(context):
        reader.put("n_ctx", whole(context), context)
    elif context is not None:
        reader.put("n_ctx", reader["n_ctx"], context)
        reader.remark(context, f"The model's own context cannot be a preset's value; {reader['n_ctx']} is taken.")
    if share is not None:
        reader.remark(share, "A preset has no limit for a conversation beside n_ctx and parallel.")
        if context is None:
            reader.put("n_ctx", whole(share) * reader["parallel"], share)
    for flag, field, bound in (("--batch-size", "n_batch", "n_ctx"), ("--ubatch-size", "n_ubatch", "n_batch")):
        option, most = reader.last(flag), reader[bound]
        if option is not None:
            size = whole(option)
            # llama.cpp takes 0 for as large as possible, but not for both.
            reader.put(field, most if size == 0 and field == "n_ubatch" else size, option)
        if reader[field] > most:
            reader.put(field, most)
            if option is not None:
                reader.remark(option, f"llama.cpp takes no more than {bound}, {most}.")


def _read_attention(reader: Reader) -> None:
    option = reader.last("--flash-attn")
    if option is None:
        return
    if option.value in _AUTO:
        reader.remark(option, "llama-server turns it off where the device cannot compute it, the preset turns it on.")
    elif not option.values:
        reader.remark(option, "llama-server of this build takes on, off or auto after it; it was read as on.")
    elif option.value not in _ON | _OFF:
        raise PresetError(f"{option.name}: {option.value!r:.40} is none of on, off and auto.", hint="Give one of them.")
    reader.put("flash_attn", option.value not in _OFF, option)
    values = reader.last("--cache-type-v")
    if values is not None and option.value in _OFF and values.value.startswith(_QUANTISED):
        raise PresetError(
            f"{values.name} {values.value} contradicts {option.name} {option.value}: a quantised cache of values needs "
            "flash attention, and llama-server refuses to start.",
            hint="Turn flash attention on, or give f16.",
        )


def _read_device(reader: Reader) -> None:
    devices, main = reader.last("--device"), reader.last("--main-gpu")
    layers, split = reader.last("--gpu-layers"), reader.last("--split-mode")
    if devices is None and main is None:
        if layers is not None and reader["n_gpu_layers"] == 0:
            reader.put("device", "CPU")
            reader.remark(layers, "No layer is on a GPU, so the preset's device is the CPU, for prompts too.")
        return
    alone = split is not None and split.value == "none"
    names = [] if devices is None else devices.value.split(",")
    index = 0 if main is None else whole(main)
    if main is not None and index < 0:
        raise PresetError(f"{main.name}: there is no GPU {index}.", hint="GPUs are counted from 0.")
    if devices is not None and names == ["none"]:
        reader.put("device", "CPU", devices)
        if layers is None:
            reader.put("n_gpu_layers", 0)
        return
    if devices is None:
        reader.put("device", f"CUDA{index}", main)
    else:
        if alone and index >= len(names):
            raise PresetError(f"--main-gpu {index}: {devices.name} names {len(names)} devices.", hint="Correct either.")
        chosen = names[index if alone else 0]
        if chosen.lower() in ("cpu", "none", ""):
            raise PresetError(
                f"{devices.name}: {chosen!r} is no device to llama-server.", hint="For the CPU give none."
            )
        reader.put("device", chosen, devices)
        if len(names) > 1:
            reader.remark(devices, f"A preset has one device, which holds the whole model: {chosen}.")
    if main is not None and not alone:
        reader.remark(main, f"A preset has one device, which holds the whole model: {reader['device']}.")


def _read_template(reader: Reader) -> None:
    jinja, option = reader.last("--jinja"), reader.later("--chat-template", "--chat-template-file")
    if jinja is not None:
        reader.remark(jinja, "A chat template is always Jinja here.")
    if option is None:
        return
    from fastinfer.prompts.find import template_names

    name = option.value
    if option.spelling == "--chat-template-file":
        if not name.endswith((".jinja", ".jinja2", ".j2")):
            raise PresetError(
                f"{option.name}: {name!r:.100} does not end with .jinja.", hint="Give the file that ending."
            )
    elif _is_jinja(name):
        name = _TRANSCRIPT if name == _transcript() else name
    elif name not in ("auto", *template_names()):
        raise PresetError(
            f"{option.name}: there is no chat template {name!r:.60} here.",
            hint=f"There are {', '.join(template_names())}; else give Jinja, or its file with --chat-template-file.",
        )
    elif jinja is None or jinja.on:
        reader.remark(
            option, "llama-server of this build knows a template's name only with --no-jinja; here it counts."
        )
    reader.put("chat_template", name, option)


def _written_template(name: str) -> list[tuple[str, ...]]:
    if name == "auto":
        return []
    if name in _WITHOUT_JINJA:
        return [("--no-jinja",), ("--chat-template", name)]
    if name == _TRANSCRIPT:
        name = _transcript()
    return [("--chat-template" if _is_jinja(name) else "--chat-template-file", quoted(name))]


def _is_jinja(text: str) -> bool:
    return "{{" in text or "{%" in text


def _transcript() -> str:
    return (files("fastinfer.prompts") / "templates" / f"{_TRANSCRIPT}.jinja").read_text(encoding="utf-8")
