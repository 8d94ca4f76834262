"""`plumbline models`: the versions of the model; the code of each command is loaded when it runs."""

import typer

from plumbline.cli.models_export import export

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Versions of the model, and what leaves for elsewhere."
)


@app.callback()
def models() -> None:
    """Versions of the model, and what leaves for elsewhere."""


app.command()(export)
