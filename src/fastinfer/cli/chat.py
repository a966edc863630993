"""``fastinfer chat``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fastinfer.cli import output
from fastinfer.cli.entry import INTERRUPTED
from fastinfer.cli.inputs import STDIN
from fastinfer.cli.job import Limit, OutputFile, Overwrite, RetryErrors, ShardOfJob, check_job_options, run_job
from fastinfer.cli.options import Debug, Isolate, Json
from fastinfer.cli.results import show_adjustments

if TYPE_CHECKING:
    from fastinfer.chat.model import LLM
    from fastinfer.chat.options import ChatOptions

__all__ = ["chat"]


def chat(
    context: typer.Context,
    prompt: Annotated[
        str | None, typer.Argument(metavar="[PROMPT]", help="Ask this and exit; - reads it from stdin.")
    ] = None,
    preset: Annotated[str, typer.Option(help="A preset of kind chat.")] = "embedded",
    model: Annotated[
        str | None,
        typer.Option(help="A GGUF file, a folder with one, or org/repo:QUANT; by default the preset's own."),
    ] = None,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="The system message.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, metavar="N", help="The longest reply, in tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, help="0 for the likeliest words.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 2, help="For replies that can be repeated.")] = None,
    json: Json = False,
    isolate: Isolate = False,
    batch: Annotated[
        str | None,
        typer.Option(
            "--batch",
            metavar="FILE",
            help="Answer a file of requests in OpenAI's batch format, a JSON object a line.",
            rich_help_panel="Jobs",
        ),
    ] = None,
    output_file: OutputFile = None,
    retry_errors: RetryErrors = False,
    limit: Limit = None,
    shard: ShardOfJob = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Chat with a language model.

    Without a prompt it is a conversation: Ctrl-C stops a reply, Ctrl-D leaves, /help lists the commands. With a
    prompt, or one piped in, it prints the reply and ends. Reasoning is shown on a terminal, and is in the JSON.

    With --batch and --output it is a job: a file of requests to a file of responses, both as OpenAI has them, in the
    order of the requests. A job that was interrupted or killed goes on when the same command is given again. The
    options for a reply hold where a request leaves them out.

    Exit code: 0 if all went well, 1 if not, 2 if the command was not understood, 130 if a single reply was stopped or
    a job was interrupted.

    \b
    Examples:
      fastinfer chat
      fastinfer chat "What is the capital of France?" --temperature 0
      fastinfer chat --model unsloth/Qwen3-0.6B-GGUF:Q8_0 --system "Answer in one word."
      git diff | fastinfer chat --system "Describe this change." --json
      fastinfer chat --batch prompts.jsonl -o replies.jsonl --preset balanced
    """
    chosen = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    options = {name: value for name, value in chosen.items() if value is not None}
    if batch is not None:
        if prompt is not None:
            raise typer.BadParameter("give a PROMPT or --batch, not both.")
        if output_file is None:
            raise typer.BadParameter("--batch writes a file of responses: give --output FILE too.")
        asked = {
            "preset": preset,
            "model": model,
            "isolate": isolate or None,
            "retry_errors": retry_errors,
            "limit": limit,
            "shard": shard,
            "overwrite": overwrite,
        }
        _answer_all(context, batch, output_file, asked, system, options, json)
        return
    if output_file is not None:
        raise typer.BadParameter("--output is for a file of requests: give --batch FILE too.")
    check_job_options(context, "retry_errors", "limit", "shard", "overwrite")
    question = _question(prompt)
    if question is None and json:
        raise typer.BadParameter("--json is for a single reply: give a PROMPT, or pipe one in.")

    import fastinfer

    with fastinfer.llm(preset, model=model, isolate=isolate or None) as loaded:
        if not json:
            show_adjustments(loaded.provenance)
        if question is not None:
            _answer(loaded, question, system, options, json)
            return

        from fastinfer.cli.conversation import Conversation

        ran = loaded.provenance
        output.note(f"model {ran.model}, {ran.engine}, {ran.device}")
        output.note("/help lists the commands. Ctrl-C stops a reply, Ctrl-D leaves.")
        Conversation(loaded, system=system, options=options, debug=debug).run()


def _question(prompt: str | None) -> str | None:
    """The prompt as given or piped in; None for a conversation."""
    if prompt == STDIN or (prompt is None and not sys.stdin.isatty()):
        if sys.stdin.isatty():
            raise typer.BadParameter("- reads the prompt from stdin, which is a terminal: leave it out to chat.")
        try:
            # utf-8-sig takes text with and without the byte order mark that some editors write.
            prompt = sys.stdin.buffer.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise typer.BadParameter("the prompt on stdin is not UTF-8 text.") from error
    if prompt is not None and not prompt.strip():
        raise typer.BadParameter("the prompt is empty.")
    return prompt


def _answer(llm: LLM, question: str, system: str | None, options: dict[str, Any], json: bool) -> None:
    from fastinfer.cli.conversation import opening_messages
    from fastinfer.cli.replies import CANCELLED, status, write

    messages = [*opening_messages(system), {"role": "user", "content": question}]
    if json:
        output.json_line(llm.chat(messages, **options).to_dict())
        return
    reply = write(llm.stream(messages, **options))
    output.note(status(reply))
    if reply.finish_reason == CANCELLED:
        raise typer.Exit(INTERRUPTED)


def _answer_all(
    context: typer.Context,
    batch: str,
    output_file: str,
    asked: dict[str, Any],
    system: str | None,
    options: dict[str, Any],
    json: bool,
) -> None:
    from fastinfer.jobs.opening import run_chat
    from fastinfer.jobs.request import JobRequest

    shown = not json and sys.stderr.isatty()
    request = JobRequest.of(batch, output_file, {**asked, "kind": "chat", "progress": shown})
    job = partial(run_chat, request, options=cast("ChatOptions", options), system=system)
    with nullcontext() if json else _remarks():
        run_job(context, job, what="answered", as_json=json)


class _Remarks(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        output.note(f"note: {record.getMessage()}")


@contextmanager
def _remarks() -> Iterator[None]:
    """Show what a job remarks on while it runs."""
    logger, shown = logging.getLogger("fastinfer.jobs"), _Remarks(logging.WARNING)
    logger.addHandler(shown)
    try:
        yield
    finally:
        logger.removeHandler(shown)
