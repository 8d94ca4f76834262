"""The `plumbline` command: one flat table of verbs, each loaded only when it is called.

`plumbline VERB` imports `plumbline.cli.VERB` (a dash becomes an underscore, `import` becomes `import_`) and runs the
function of that name there, or the Typer `app` there when the verb is a group. So `plumbline --help` imports no verb.

Results go to standard output, progress and logs to standard error.
Exit codes: 0 done, 1 refused or failed, 2 wrong usage; 75 (as sysexits' EX_TEMPFAIL) of `retrain` and `train` that were
told to stop, or met a part that is away: the same command goes on.
"""

import functools
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from plumbline.errors import InvalidSetting, NotFound, PlumblineError, Preempted, Unready

VERBS: Final[dict[str, str]] = {
    "demo": "Run every part on this machine, on simulated payments.",
    "broker": "Run a local Apache Kafka broker.",
    "topics": "Create the topics with their declared settings.",
    "import": "Bring a data set into the archive layout.",
    "simulate": "Write an archive of simulated payments and frauds.",
    "backfill": "Fold an archive into the first snapshot of history.",
    "declaration": "Print the feature declaration, or check one in a file.",
    "train": "Train a model on an archive and export it.",
    "retrain": "Make the next candidate of what is known by now.",
    "models": "The registry of model versions, and their releases.",
    "serve": "Serve models over TensorFlow Serving's protocol.",
    "play": "Send an archive or a simulation to the transactions topic.",
    "score": "Decide transactions and write the journal.",
    "ledger": "Store the journal's decisions in SQL.",
    "policy": "Bring a policy into force, or show the newest.",
    "prepare": "Compute the history that another declaration needs.",
    "assign": "Say which model version decides, and which score beside it.",
    "snapshot": "List the snapshots of history; --verify refolds and compares.",
    "audit": "Recompute decisions of the journal and compare every bit.",
    "watch": "Audit a sample all the time, and count every message.",
    "guard": "Judge versions under guard, and take faulty ones out.",
    "replay": "Compute one past decision again, field by field.",
    "conservation": "Count what became of every acknowledged message.",
    "drift": "Compare the last day with what models were trained on.",
    "keep": "Copy the journal and its messages into files.",
    "migrate": "Bring the SQL tables to the newest version.",
    "users": "Add, list or disable log-ins of the console.",
    "keys": "Add, list or disable keys of the decision API.",
    "api": "Decide for callers that wait: HTTP and gRPC.",
    "web": "Run the analysts' console.",
    "settings": "Print every setting, its value and where it came from.",
    "schemas": "Write the JSON Schemas and the reference page, or check them.",
}

# What an installation without the `model` extra may lack; anything else missing is a fault of ours.
EXTRAS: Final = {
    "tensorflow": "model",
    "tensorflow_transform": "model",
    "apache_beam": "model",
    "keras": "model",
    "tfx_bsl": "model",
    "tensorboard": "model",
    "sklearn": "model",
}

DONE, FAILED, USAGE = 0, 1, 2
AGAIN = 75
"""Told to stop, and to be called again (EX_TEMPFAIL of sysexits.h)."""


class Verbs(TyperGroup):
    """The group of all verbs: names and one-line help come from VERBS, the code of a verb only when it runs."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override] # narrower in Typer's vendored click
        return list(VERBS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        return command(cmd_name) if cmd_name in VERBS else None

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


def module_name(verb: str) -> str:
    """Module that holds a verb.

    >>> module_name("import"), module_name("dead-letter")
    ('plumbline.cli.import_', 'plumbline.cli.dead_letter')
    """
    return "plumbline.cli." + ("import_" if verb == "import" else verb.replace("-", "_"))


def command(verb: str) -> Any:
    """Typer's command object of a verb; imports the verb's module. Raises NotFound when there is none."""
    name = module_name(verb)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise NotFound(f"plumbline {verb} is not part of this installation") from None
    group: typer.Typer | None = getattr(module, "app", None)
    if group is None:
        group = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        group.command(name=verb)(_with_logs(getattr(module, name.rpartition(".")[2])))
    else:
        nested = [each.typer_instance for each in group.registered_groups if each.typer_instance is not None]
        for part in (group, *nested):
            part.rich_markup_mode = None
            for each in part.registered_commands:
                if each.callback is not None:
                    each.callback = _with_logs(each.callback)
    return typer.main.get_command(group)


def _with_logs(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, with logs set up from the settings before its first line runs."""

    @functools.wraps(function)
    def run(*arguments: Any, **options: Any) -> Any:
        from plumbline import settings
        from plumbline.cli import log

        log.configure(settings.load().log_format, sys.stderr)
        return function(*arguments, **options)

    return run


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"plumbline {version('plumbline')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Anti-fraud whose served numbers equal its training numbers, bit for bit."""


app = typer.Typer(
    cls=Verbs,
    name="plumbline",
    add_completion=False,
    no_args_is_help=True,
    # Rich is loaded by the commands that draw with it: plain help and plain errors start sooner.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.callback()(_root)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; an error raised on purpose becomes one sentence on stderr."""
    try:
        typer.main.get_command(app).main(args=list(arguments), prog_name="plumbline")
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else (FAILED if leave.code else DONE)
    except PlumblineError as error:
        print(f"plumbline: {error}", file=sys.stderr)
        if isinstance(error, Preempted):
            return AGAIN
        return USAGE if isinstance(error, InvalidSetting) else FAILED
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        missing = Unready(f"this installation lacks {error.name}: install it with `pip install 'plumbline[{extra}]'`")
        print(f"plumbline: {missing}", file=sys.stderr)
        return FAILED
    return DONE


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
