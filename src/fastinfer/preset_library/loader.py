"""Finding presets by name: the user's before the built-in ones."""

from __future__ import annotations

from fastinfer.errors import PresetError
from fastinfer.preset_library.files import BUILT_IN, KINDS, Layer, names, preset_layers
from fastinfer.preset_library.preset import Preset
from fastinfer.preset_library.schema import Kind, Parameters
from fastinfer.preset_library.validation import check_kind, nearest, parse_parameters

__all__ = ["as_preset", "preset", "preset_in", "presets"]


def presets(kind: Kind | None = None) -> list[Preset]:
    """Every preset that can be had here: the built-in ones in their order, then the user's own.

    A user's preset that has a built-in one's name takes its place; its ``source`` is the file it is from.

    Args:
        kind: ``"classify"`` or ``"chat"``; None for both.

    Raises:
        PresetError: there is no such kind, or a preset file or a preset in it is not valid.
    """
    kinds = KINDS if kind is None else (check_kind(kind),)
    layers = preset_layers()
    return [preset_in(layers, known, name) for known in kinds for name in names(layers, known)]


def preset(name: str, kind: Kind | None = None) -> Preset:
    """The preset of this name; the user's files come before the built-in presets.

    Args:
        name: a preset's name, ``"balanced"`` for example.
        kind: ``"classify"`` or ``"chat"``; may be left out where only one kind has the name.

    Raises:
        PresetError: no preset has the name (the nearest names are given), both kinds have it and ``kind`` is left
            out, there is no such kind, or the preset's file or the preset itself is not valid.
    """
    kinds = KINDS if kind is None else (check_kind(kind),)
    layers = preset_layers()
    found = [known for known in kinds if name in names(layers, known)]
    if len(found) == 1:
        return preset_in(layers, found[0], name)
    if found:
        raise PresetError(
            f"Both kinds have a preset {name!r}.", hint=f"Pass {' or '.join(f'kind={known!r}' for known in found)}."
        )
    of_kind = "" if kind is None else f" of kind {kind!r}"
    raise PresetError(f"There is no preset {name!r}{of_kind}.", hint=_suggestion(layers, name, kinds))


def as_preset(given: str | Preset, kind: Kind | None = None) -> Preset:
    """What a caller named a preset by: itself, or the one of that name.

    Raises:
        PresetError: as :func:`preset`, of a name.
    """
    return given if isinstance(given, Preset) else preset(given, kind)


def preset_in(layers: list[Layer], kind: Kind, name: str, chain: tuple[tuple[str, str], ...] = ()) -> Preset:
    """Load a preset from the first layer that has it, with the presets it extends.

    Args:
        layers: preset files, highest precedence first; one of them has the preset.
        kind: ``"classify"`` or ``"chat"``.
        name: the preset's name.
        chain: source and name of the presets that led here, for the circle they may make.

    Raises:
        PresetError: the preset, or one that it extends, is not valid.
    """
    depth = next(index for index, layer in enumerate(layers) if name in layer.tables.get(kind, {}))
    source, values = layers[depth].source, dict(layers[depth].tables[kind][name])
    where = f"{source} [{kind}.{name}]"
    chain = _extended(chain, (source, name))
    summary = _take_text(values, "summary", where)
    base_name = _take_text(values, "extends", where)
    documented: Parameters | None = None
    if base_name is not None:
        # What a file means does not hang on the files above it, so look in this file and below; a preset that
        # extends its own name means the one it shadows.
        below = layers[depth + 1 :] if base_name == name else layers[depth:]
        if base_name not in names(below, kind):
            raise PresetError(
                f"{where}: extends {base_name!r}, which is no {kind} preset in this file or one of lower precedence.",
                hint=_suggestion(below, base_name, (kind,)),
            )
        base = preset_in(below, kind, base_name, chain)
        if source != BUILT_IN:
            documented = base.parameters if base.source == BUILT_IN else base._documented
        if values.setdefault("backend", base.parameters.backend) != base.parameters.backend:
            raise PresetError(
                f"{where}: backend {values['backend']!r} differs from that of {base_name!r}, which it extends.",
                hint=f"Leave backend out ({base.parameters.backend!r}), or extends.",
            )
        values = {**base.parameters.model_dump(), **values}
        summary = base.summary if summary is None else summary
    elif "backend" not in values:
        raise PresetError(
            f"{where}: neither extends nor backend is given.",
            hint=f"Give extends, the {kind} preset to start from, or backend and every field without a default.",
        )
    return Preset(
        name=name,
        kind=kind,
        summary=" ".join((summary or "").split()),
        source=source,
        parameters=parse_parameters(kind, values, where=where),
        _documented=documented,
    )


def _extended(chain: tuple[tuple[str, str], ...], step: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    longer = (*chain, step)
    if step in chain:
        circle = " extends ".join(repr(name) for _, name in longer[chain.index(step) :])
        raise PresetError(f"{step[0]}: presets extend each other in a circle: {circle}.", hint="Break the circle.")
    return longer


def _take_text(values: dict[str, object], key: str, where: str) -> str | None:
    value = values.pop(key, None)
    if value is None or isinstance(value, str):
        return value
    raise PresetError(f"{where}: {key} is {value!r}.", hint=f"{key} must be text in quotes.")


def _suggestion(layers: list[Layer], name: str, kinds: tuple[Kind, ...]) -> str:
    known = list(dict.fromkeys(known for kind in kinds for known in names(layers, kind)))
    close = nearest(name, known)
    said = f"Did you mean {' or '.join(map(repr, close))}?" if close else f"There are {', '.join(known)}."
    return f"{said} fastinfer.presets() lists every preset."
