"""Nights of the retraining as SQL has them: one in the shadow, one refused, one failed, one at work."""

from typing import Any

from sqlalchemy import Engine

from store.engine import transaction
from store.retrain_tables import RetrainRun
from store.retrains import record

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
STEPS = ("archive", "labels", "history", "rows", "analysis", "fit", "evaluate", "gate", "register", "shadow")
SHADOWED, REFUSED, FAILED, RUNNING = (f"2026-07-{day}-0123456{day}" for day in (25, 26, 27, 28))


def steps(until: str, state: str = "running") -> list[dict[str, Any]]:
    """Every step before `until` done, that one in a state, and the others waiting."""
    at = STEPS.index(until) if until else len(STEPS)
    found = []
    for place, name in enumerate(STEPS):
        done = place < at
        found.append(
            {
                "name": name, "state": "done" if done else state if place == at else "waiting",
                "seconds": 12.5 * place if done else 0.0, "rows": 1_204_331 if done and name == "rows" else 0,
                "facts": {"days_made": 1, "archive_digest": "a1" * 8} if done else {},
                "inputs": {"labels/train.parquet": "2b" * 32} if done and name == "rows" else {},
                "outputs": {f"{name}.parquet": f"{place:x}c" * 32} if done else {},
                "digest": f"{place:x}d" * 32 if done else "",
            }
        )  # fmt: skip
    return found


def check(name: str, passed: bool, words: str, words_zh: str, judged: bool = True) -> dict[str, Any]:
    """A check of the gate, as its facts."""
    return {"name": name, "passed": passed, "judged": judged, "candidate": 0.7, "champion": 0.69, "limit": 0.6,
            "low": -0.01, "high": 0.03, "words": words, "words_zh": words_zh, "part": ""}  # fmt: skip


GATE = {
    "verdict": "passed",
    "checks": [
        check(
            "ap", True, "average precision is 0.712, the champion's 0.698: +0.014", "平均精确率为 0.712，冠军为 0.698"
        ),
        check("latency", True, "latency was not measured", "未测量延迟", judged=False),
    ],
}
REFUSING = {
    "verdict": "refused",
    "why": ["21 % of last night's labels changed"],
    "why_zh": ["昨夜 21% 的标签与前夜不同"],
    "checks": [
        *GATE["checks"],
        check("labels_changed", False, "21 % of last night's labels changed", "昨夜 21% 的标签发生变化"),
    ],
}
METRICS = {
    side: {"ap": {"value": ap, "low": ap - 0.02, "high": ap + 0.02}, "cp100": {"value": 0.3, "low": 0.29, "high": 0.31}}
    for side, ap in (("candidate", 0.71234), ("champion", 0.69876))
}


def night(run: str, now_us: int, verdict: str, **facts: Any) -> RetrainRun:
    """A night of some hours ago."""
    usual: dict[str, Any] = {
        "cut_off": now_us - 6 * HOUR_US, "started_at": now_us - 5 * HOUR_US, "updated_at": now_us - 3 * HOUR_US,
        "finished_at": now_us - 3 * HOUR_US, "seconds": 5_400.0, "attempts": 1, "step": "", "version": None,
        "champion": 3, "rows": 1_204_331, "arguments": {}, "steps": steps(""), "gate": None, "metrics": None,
        "error": "", "tensorboard": f"/data/retrain/runs/{run}/tensorboard", "host": "trainer-0",
    }  # fmt: skip
    return RetrainRun(run=run, verdict=verdict, **usual | facts)


def store_nights(engine: Engine, now_us: int) -> None:
    """Four nights, the newest at work."""
    with transaction(engine) as session:
        record(session, night(SHADOWED, now_us, "shadowed", started_at=now_us - 3 * DAY_US, version=5, gate=GATE,
                              metrics=METRICS, attempts=2))  # fmt: skip
        record(session, night(REFUSED, now_us, "refused", started_at=now_us - 2 * DAY_US, step="gate", gate=REFUSING,
                              metrics=METRICS, steps=steps("register", "waiting"),
                              error="21 % of last night's labels changed"))  # fmt: skip
        record(session, night(FAILED, now_us, "failed", started_at=now_us - DAY_US, step="fit", finished_at=None,
                              steps=steps("fit", "failed"), error="the loss is NaN after step 41"))  # fmt: skip
        record(session, running(now_us))


def running(now_us: int, step: str = "fit", **facts: Any) -> RetrainRun:
    """The night that is at work; its sign of life is ahead of the clock, so that no slow test finds it silent."""
    return night(
        RUNNING, now_us, "running", step=step, steps=steps(step), finished_at=None, updated_at=now_us + HOUR_US, **facts
    )
