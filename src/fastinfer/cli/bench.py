"""``fastinfer bench``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fastinfer.cli import output
from fastinfer.cli.inputs import read_labels
from fastinfer.cli.options import Debug, Json, as_typed
from fastinfer.cli.sample import Images, Labels, Model, Prompts, ReplyTokens, SampleKind, read_sample

if TYPE_CHECKING:
    from fastinfer.measuring import Receipt

__all__ = ["bench"]

_COLUMNS = (
    output.Column("Figure", style="bold"),
    output.Column("Median", justify="right"),
    output.Column("Lowest", justify="right"),
    output.Column("Highest", justify="right"),
)
_MEMORY = ("memory", "gpu_memory")
_COUNTS = ("items", "errors", "tokens", "prompt_tokens", "cached_tokens")


def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="PRESET", help="The preset to measure.")] = "embedded",
    images: Images = None,
    prompts: Prompts = None,
    kind: SampleKind = None,
    model: Model = None,
    labels: Labels = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="How many ask at once; by default what fills the engine.")
    ] = None,
    max_tokens: ReplyTokens = 128,
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="How often a sample is gone through.")] = 3,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0, metavar="SECONDS", help="How long is measured without a sample.")
    ] = 60,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure a preset here: throughput, latencies, memory.

    Without a sample the work is made here, the same on every machine, so that receipts can be compared. With --json it
    is such a receipt: the figures with the machine, the versions and the command.

    \b
    Examples:
      fastinfer bench embedded --kind classify
      fastinfer bench embedded --images photos/ --labels cat,dog --json
      fastinfer bench balanced --model model.gguf --prompts prompts.txt --concurrency 8
    """
    sample = read_sample(images, prompts, kind)
    if sample is None and (labels or concurrency):
        raise typer.BadParameter("--labels and --concurrency go with a sample: give --images or --prompts.")
    command = as_typed(context)

    from fastinfer.measuring import take_receipt
    from fastinfer.preset_library import preset

    if sample is None:
        from fastinfer.verifying import measure, standard_workload

        chosen = preset(name, None if kind is None else kind.value)
        receipt = measure(chosen, standard_workload(chosen), model=model, seconds=seconds, command=command)
    else:
        receipt = take_receipt(
            name,
            kind=sample.kind,
            model=model,
            sample=sample.items,
            labels=read_labels(labels, None),
            max_tokens=max_tokens,
            concurrency=concurrency,
            rounds=rounds,
            command=command,
        )
    if json:
        output.json_line(receipt.to_dict())
    else:
        _show(receipt)


def _show(receipt: Receipt) -> None:
    figures, work = receipt.figures, receipt.workload
    machine = ", ".join(receipt.environment.gpus) or receipt.environment.cpu
    output.note(f"{receipt.preset} ({receipt.kind}): model {receipt.model}, {receipt.engine}, {receipt.device}")
    output.note(f"{machine}; {work.name}, {work.items} items a round, {receipt.rounds} rounds")
    with output.rows(_COLUMNS) as add:
        for name, ends in receipt.spread.items():
            unit = f", {figures.unit}" if name == "throughput" else f", {figures.latency_load}"
            shown = name + (unit if name == "throughput" or name.startswith("latency") else "")
            add(shown, *(_text(name, value) for value in (getattr(figures, name), *ends)))


def _text(name: str, value: float) -> str:
    if name in _COUNTS:
        return str(round(value))
    if name in _MEMORY:
        return f"{value / 2**20:.0f} MiB"
    return f"{value:.1f}" if name == "throughput" else f"{value * 1e3:.1f} ms"
