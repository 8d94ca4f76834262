"""A scorer that stands by has its compiled code at hand: no payment waits for it."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import json
from features import kernel, keys
from plumbline.policy import DEFAULT_POLICY
from streaming import known
from streaming.batch import Message, process
from streaming.known import Known
from streaming.state import State
from streaming.warm_up import warm_up
from tests.fakes import NOW, Numbered, fake_model, payment, raw, told

def compiled():
    found = {}
    for module in (kernel, keys, known):
        for name, each in vars(module).items():
            if hasattr(each, "nopython_signatures"):
                found[f"{module.__name__}.{name}"] = len(each.nopython_signatures)
    return found

warm_up()
before = compiled()
state = State(Known(2500))
state.policy = DEFAULT_POLICY
paid, said = Numbered("transactions"), Numbered("labels")
for first in range(0, 3000, 1000):
    some = [paid.message(raw(payment(n, merchant_id=f"m{n}"))) for n in range(first, first + 1000)]
    labels = [said.message(raw(told(first, first - 20))), said.message(raw(told(first + 1, first + 500)))]
    process(state, fake_model(), transaction=some, label=labels, now_us=NOW)
print(json.dumps([before, compiled()]))
"""


def test_after_the_warm_up_nothing_is_compiled_or_loaded_for_payments_and_labels():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout.splitlines()[-1])
    assert sum(before.values()) >= 5
    assert after == before
