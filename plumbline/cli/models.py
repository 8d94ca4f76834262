"""`plumbline models`: the registry of model versions; the code of each command is loaded when it runs."""

import typer

from plumbline.cli.models_card import card
from plumbline.cli.models_comparing import compare
from plumbline.cli.models_experiment import experiment
from plumbline.cli.models_export import export
from plumbline.cli.models_reconcile import reconcile
from plumbline.cli.models_registry import config, list_, register, show
from plumbline.cli.models_releasing import carry_out, promote, rollback, withdraw

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="The registry of model versions, their releases, and the way back."
)


@app.callback()
def models() -> None:
    """The registry of model versions, their releases, and the way back."""


app.command("list")(list_)
for command in (show, register, promote, rollback, withdraw, reconcile, compare, config, card):
    app.command()(command)
app.command("carry-out")(carry_out)
app.command()(export)
app.add_typer(experiment, name="experiment")
