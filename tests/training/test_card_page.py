"""A model card's page: self-contained, escaped, the same bytes from the same scores, and it says what was found."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.gate import NOISE, seen, side, window
from plumbline.cli.main import DONE, FAILED, run
from retrain.gate import judge
from retrain.gate_limits import Limits
from training.card_page import MADE, METRICS, PICTURES, page, page_of
from training.card_plots import curve, plots
from training.costs import Costs, Thresholds
from training.files import CARD, file_digests, page_file
from training.metrics import measure
from training.slices import slices

COSTS = Costs()
HOSTILE = '<script>alert("x")</script>'


class Elements(HTMLParser):
    """Every element with its attributes; void ones need no end."""

    def __init__(self, text):
        super().__init__()
        self.found, self.text, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def sides():
    of = window(6_000, 3)
    return side(of, seen(of, NOISE, 2), COSTS), side(of, seen(of, NOISE, 1), COSTS)


@pytest.fixture(scope="module")
def facts(sides):
    ours, champion = sides
    gate = judge(ours, champion, Limits(resamples=100), COSTS, seed=1)
    metrics = measure(ours.rows)
    metrics |= {f"{name}_unblocked": metrics[name] / 2 for name in ("ap", "auc", "cp100", "ece", "brier")}
    return {
        "name": "plumbline", "version": 7, "created_at": 1_700_000_000_000_000, "train": "2024-01-01..2024-02-01",
        "test": "2024-02-09..2024-02-14", "rows": {"train": 100_000, "test": 6_000}, "seed": 3,
        "metrics": metrics, "slices": slices(ours.rows), "gate": gate.facts(), "made_by": HOSTILE,
        "policy": {"review_at": 0.2, "decline_at": 2.0}, "fingerprint": "0123456789abcdef",
        "costs": {"assumed": {"review_minor": 300}, "spent": {"cost_minor": 12_345.0}},
    }  # fmt: skip


@pytest.fixture(scope="module")
def text(facts, sides):
    ours, champion = sides
    return page_of(ours.rows, ours.thresholds, COSTS, champion.rows)(facts).decode()


def test_nothing_is_loaded_from_anywhere_and_nothing_runs(text):
    for tag, attributes in Elements(text).found:
        assert tag not in {"script", "iframe", "object", "embed", "img", "link", "form", "base"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"href", "src", "xlink:href"}:
                assert value.startswith("#"), (tag, name, value)
    assert re.findall(r"url\((?!#)", text) == []
    assert "@import" not in text


def test_what_it_says_is_escaped_and_in_both_languages(text, facts):
    elements = Elements(text)
    words = " ".join(elements.text)
    assert HOSTILE in words
    assert HOSTILE not in text
    for en, zh in (*METRICS.values(), *PICTURES.values(), MADE["made_by"]):
        if en not in ("TensorFlow",):
            assert en in words, en
            assert zh in words, zh
    for each in facts["gate"]["checks"]:
        assert each["words"] in words
        assert each["words_zh"] in words
    assert f"{facts['metrics']['ap']:,.5g}" in words
    assert "never" in words
    assert "channel=pos" in words
    assert re.search(r"0\.\d+ … 0\.\d+", words), "an interval"


def test_equal_scores_give_equal_bytes(text, facts, sides):
    ours, champion = sides
    assert page_of(ours.rows, ours.thresholds, COSTS, champion.rows)(facts).decode() == text
    moved = replace(ours.rows, scores=ours.rows.scores**2)
    assert page_of(moved, ours.thresholds, COSTS, champion.rows)(facts).decode() != text


def test_pictures_are_whole_svg_elements(sides):
    ours, _ = sides
    found = plots(ours.rows, ours.thresholds, COSTS)
    assert list(found) == list(PICTURES)
    for svg in found.values():
        assert ElementTree.fromstring(svg).tag.endswith("svg")
    bare = plots(replace(ours.rows, amounts_minor=None), Thresholds(2.0, 2.0), COSTS)
    assert "costs" not in bare


def test_the_curve_is_that_of_the_counts(sides):
    rows = sides[0].rows.take(np.arange(300))
    recall, precision = curve(rows)
    highest = np.sort(np.unique(rows.scores))[::-1]
    for each in (0, -1):
        above = rows.scores >= highest[each]
        assert precision[each] == pytest.approx(rows.frauds[above].mean())
        assert recall[each] == pytest.approx(rows.frauds[above].sum() / rows.frauds.sum())


def test_a_card_of_little_says_little():
    words = " ".join(Elements(page({"name": "old"}).decode()).text)
    assert "old" in words
    assert "Gate" not in words
    assert "Pictures" not in words


def test_a_card_says_two_figures_by_two_names_and_that_a_version_is_held(facts):
    words = " ".join(Elements(page(facts).decode()).text)
    for name in ("ap", "ap_unblocked"):
        assert f"{facts['metrics'][name]:,.5g}" in words
    assert "Held:" not in words
    held = {**facts, "costs": {"assumed": {}, "spent": {"decline_share": 0.19}}}
    assert "Held: these thresholds would decline 19.00 % of all payments" in page(held).decode()


def test_the_command_holds_a_card_against_its_digest(tmp_path, capsys, text, monkeypatch):
    monkeypatch.setenv("PLUMBLINE_DATA_DIR", str(tmp_path))
    folder = tmp_path / "models" / "plumbline" / "7"
    page_file(folder).parent.mkdir(parents=True)
    assert run(["models", "card", "8"]) == FAILED
    assert run(["models", "card", "7"]) == FAILED
    page_file(folder).write_text(text)
    (folder / CARD).write_text(json.dumps({"files": file_digests(folder)}))
    capsys.readouterr()
    assert run(["models", "card", "7", "--json", "--out", str(tmp_path / "out.html")]) == DONE
    assert json.loads(capsys.readouterr().out)["sha256"] == file_digests(folder)["assets.extra/card.html"]
    assert (tmp_path / "out.html").read_text() == text
    page_file(folder).write_text(text + " ")
    assert run(["models", "card", "7"]) == FAILED
    assert "do not believe it" in capsys.readouterr().err
