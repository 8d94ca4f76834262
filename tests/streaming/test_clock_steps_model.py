"""The scorer's view of the model counts its rests, looks and latencies by the time that passed."""

import numpy as np
import pytest

from features.declaration import HISTORY_NAMES, fingerprint
from plumbline.transaction import parse
from streaming.batch import model_columns
from streaming.model import LOOK_SECONDS, PAUSE_MOST_SECONDS, Question
from tests.fakes import Clock, FakeClient, fake_model, payment, raw

HOUR = 3600.0
STEPS = pytest.mark.parametrize("step", [-HOUR, HOUR], ids=["an hour back", "an hour forward"])


def question(clock: Clock, version: int | None = None) -> Question:
    paid = parse(raw(payment(1)), clock())
    return Question(model_columns([paid], np.zeros((1, len(HISTORY_NAMES)), np.int64)), fingerprint(), version)


@STEPS
@pytest.mark.parametrize("version", [None, 1])
def test_a_model_that_rests_is_asked_again_after_its_pause(step: float, version: int | None) -> None:
    """An hour back left every payment unscored for that hour."""
    client, clock = FakeClient(), Clock()
    model = fake_model(client, clock)
    client.down = True
    assert model.ask(question(clock, version)).failure == "error"
    client.down = False
    clock.steps(step)
    assert model.ask(question(clock, version)).failure == "error", "it rests"
    clock.passes(PAUSE_MOST_SECONDS)
    found = model.ask(question(clock, version))
    assert found.scored is not None
    assert found.micros == 0, "no time passed, whatever the wall clock says"


@STEPS
def test_a_newer_version_is_found_within_a_look(step: float) -> None:
    client, clock = FakeClient(), Clock()
    model = fake_model(client, clock)
    assert model.ask(question(clock)).scored.model_version == 1
    clock.steps(step)
    client.version = 2
    clock.passes(LOOK_SECONDS)
    assert model.ask(question(clock)).scored.model_version == 2


@STEPS
def test_explanations_come_back_after_their_pause(step: float) -> None:
    client, clock = FakeClient(), Clock()
    model = fake_model(client, clock)
    asked = [(question(clock).columns, 1, client.features)]
    client.mute = True
    assert model.explain(asked) == [None]
    client.mute = False
    clock.steps(step)
    assert model.explain(asked) == [None], "it rests"
    clock.passes(PAUSE_MOST_SECONDS)
    assert model.explain(asked)[0] is not None
