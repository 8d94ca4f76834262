"""A transaction's page says who decided and why, and what shadows said, once; the ledger stores it once."""

import re

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from plumbline.journal import Answered
from store.alerts import open_alerts
from store.tables import Decision, ShadowScore
from tests.app.test_sent_again import put


def said(console, sequence, version, value=None, failure=""):
    return Answered(
        version=version, role="shadow", rows=1, failure=failure, micros=900, sequences=(sequence,),
        values=() if value is None else (value,), journaled_at=console.now_us,
    )  # fmt: skip


@pytest.fixture
def decided(console):
    """The decision behind the costliest alert, made by a canary."""
    with Session(console.engine) as session:
        found = open_alerts(session, 1)[0].decision
        changed = sa.update(Decision).where(Decision.sequence == found.sequence)
        session.execute(changed.values(assignment="canary-7", route="canary", model_version=2))
        session.commit()
        return found.transaction_id, found.sequence


def trail(page):
    """The card of score and record as its text."""
    found = re.search(r'<section class="card trail-card".*?</section>', page, re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", found[0]))


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ["Decided as Canary", "Shadow, version 3 0.125", "Shadow, version 4 did not answer in time",
                "Assignment canary-7"]),
        ("zh-CN", ["决策身份 金丝雀", "影子模型，版本 3 0.125", "影子模型，版本 4 未及时应答", "版本分派 canary-7"]),
    ],
)  # fmt: skip
def test_the_page_shows_route_and_shadows(console, decided, language, words):
    transaction_id, sequence = decided
    put(console, said(console, sequence, 3, 0.125), said(console, sequence, 4, failure="deadline"))
    put(console, said(console, sequence, 3, 0.125))  # the same batch again
    client = console.client("analyst")
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = language
    page = client.get(f"/transactions/{transaction_id}", follow_redirects=True).text
    shown = trail(page)
    for each in words:
        assert each in shown
    with Session(console.engine) as session:
        stored = session.scalars(sa.select(ShadowScore).where(ShadowScore.sequence == sequence)).all()
    assert [(each.version, each.score, each.failure) for each in stored] == [(3, 0.125, ""), (4, None, "deadline")]


def test_without_an_assignment_the_page_says_so_shortly(console):
    with Session(console.engine) as session:
        transaction_id = open_alerts(session, 2)[1].decision.transaction_id
    page = console.client("analyst").get(f"/transactions/{transaction_id}", follow_redirects=True).text
    assert "Decided as First version served" in trail(page)
    assert "Shadow" not in trail(page)
    assert "Assignment" not in trail(page)
