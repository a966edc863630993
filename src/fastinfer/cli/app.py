"""The commands put together, and what they do alike: the version, and errors on one line."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fastinfer import __version__
from fastinfer.cli import output
from fastinfer.cli.bench import bench
from fastinfer.cli.calibrate import calibrate
from fastinfer.cli.chat import chat
from fastinfer.cli.classify import classify
from fastinfer.cli.compare import compare
from fastinfer.cli.demo import demo
from fastinfer.cli.doctor import doctor
from fastinfer.cli.explain import explain
from fastinfer.cli.options import wants_traceback
from fastinfer.cli.plan import plan
from fastinfer.cli.presets import presets
from fastinfer.cli.report import report
from fastinfer.cli.tune import tune
from fastinfer.cli.verify import verify
from fastinfer.errors import FastInferError

__all__ = ["app"]


class _Commands(TyperGroup):
    """Shows an error of the library as one line; it says what happened and what to do, and a traceback would not."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except FastInferError as error:
            if wants_traceback(ctx):
                raise
            output.error(str(error))
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_Commands, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False, name="fastinfer"
)


def _show_version(asked: bool) -> None:
    if asked:
        output.line(f"fastinfer {__version__}")
        raise typer.Exit


@app.callback()
def fastinfer(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Classify images with exact label probabilities, and chat with language models, on any machine.

    Start with fastinfer demo: it runs offline, with the model in the package.
    """


app.command()(demo)
app.command()(classify)
app.command()(chat)
app.add_typer(presets, name="presets")
app.command()(explain)
app.command()(plan)
app.command()(doctor)
app.command()(tune)
app.command()(bench)
app.command()(compare)
app.command()(report)
app.command()(calibrate)
app.command()(verify)
