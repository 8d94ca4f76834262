"""The command: quick help, verbs loaded when called, errors as one sentence and the right exit code."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from plumbline.cli import main as cli
from plumbline.errors import Invalid, InvalidSetting, ModelUnavailable, NotFound, PlumblineError, Refused, Unready
from plumbline.names import Topic

PLUMBLINE = [sys.executable, "-m", "plumbline.cli.main"]


def test_help_lists_every_verb_in_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == cli.DONE
    printed = capsys.readouterr().out
    for verb, text in cli.VERBS.items():
        assert any(line.split() == [verb, *text.split()] for line in printed.splitlines()), verb


def test_help_answers_in_300_ms_since_it_loads_no_verb_and_no_heavy_library() -> None:
    took = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*PLUMBLINE, "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # Processor time, and the best of five: what the command costs, not what else the machine was doing.
    assert min(took) < 0.3
    code = "import sys; from plumbline.cli.main import run; run(['--help']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"rich", "numpy", "pyarrow", "kafka", "flask", "sqlalchemy", "tensorflow", "structlog"} & set(loaded)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_exists_and_has_help_for_every_option(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([verb, "--help"]) == cli.DONE
    assert "Usage: plumbline " + verb in capsys.readouterr().out
    command = cli.command(verb)
    for each in (getattr(command, "commands", None) or {verb: command}).values():
        assert each.help, f"{verb} lacks a docstring"
        for parameter in each.params:
            assert getattr(parameter, "help", None), f"{verb}: {parameter.name} lacks a help text"


def test_an_unknown_verb_and_an_unknown_option_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["decide"]) == cli.USAGE
    assert cli.run(["settings", "--yaml"]) == cli.USAGE
    assert "No such" in capsys.readouterr().err


def test_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == cli.DONE
    assert capsys.readouterr().out.startswith("plumbline 0.")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidSetting("environment", "PLUMBLINE_X", "1", "another name"), 2),
        (Invalid("row 3", "amount", "x", "a number"), 1),
        (ModelUnavailable("the model server does not answer"), 1),
        (NotFound("no such archive"), 1),
        (Refused("not now"), 1),
        (Unready("no Java: install it"), 1),
    ],
)
def test_an_error_raised_on_purpose_is_one_sentence_on_stderr(
    error: PlumblineError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "command", lambda verb: typer_command(raising(error)))
    assert cli.run(["score"]) == code
    printed = capsys.readouterr()
    assert printed.err == f"plumbline: {error}\n"
    assert printed.out == ""


def test_a_missing_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow.python")
    monkeypatch.setattr(cli, "command", lambda verb: typer_command(raising(absent)))
    assert cli.run(["serve"]) == cli.FAILED
    assert "pip install 'plumbline[model]'" in capsys.readouterr().err


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "command", lambda verb: typer_command(raising(ZeroDivisionError())))
    with pytest.raises(ZeroDivisionError):
        cli.run(["score"])


def test_an_exit_code_that_a_verb_chooses_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "command", lambda verb: typer_command(raising(typer.Exit(1))))
    assert cli.run(["audit"]) == 1


def test_settings_prints_one_json_object_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLUMBLINE_SECRET_KEY", "s3cret" * 6)
    monkeypatch.setenv("PLUMBLINE_HTTP_PORT", "9999")
    assert cli.run(["settings", "--json"]) == cli.DONE
    printed = capsys.readouterr().out
    rows = json.loads(printed)
    assert rows["PLUMBLINE_HTTP_PORT"]["value"] == "9999"
    assert rows["PLUMBLINE_HTTP_PORT"]["source"] == "environment"
    assert rows["PLUMBLINE_SECRET_KEY"]["value"] == "(masked)"
    assert "s3cret" not in printed


def test_a_misspelt_setting_stops_every_command_as_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLUMBLINE_HTTP_PROT", "1")
    assert cli.run(["settings"]) == cli.USAGE
    assert "PLUMBLINE_HTTP_PROT" in capsys.readouterr().err


def test_schemas_and_reference_are_written_checked_and_found_stale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["schemas", "--docs", str(tmp_path)]
    assert cli.run([*arguments, "--check"]) == cli.FAILED
    assert cli.run(arguments) == cli.DONE
    written = {path.stem for path in (tmp_path / "schemas").iterdir()}
    assert written == {topic.value for topic in Topic} - {"scorer-lease"} | {"openapi"}
    assert cli.run([*arguments, "--check"]) == cli.DONE
    (tmp_path / "reference.md").write_text("old")
    (tmp_path / "schemas" / "forgotten.json").write_text("{}")
    capsys.readouterr()
    assert cli.run([*arguments, "--check"]) == cli.FAILED
    assert "reference.md, schemas/forgotten.json differ from the code" in capsys.readouterr().err
    assert cli.run(arguments) == cli.DONE
    assert not (tmp_path / "schemas" / "forgotten.json").exists()


def typer_command(function: Callable[[], None]) -> object:
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(function)
    return typer.main.get_command(app)


def raising(error: Exception) -> Callable[[], None]:
    def verb() -> None:
        raise error

    return verb
