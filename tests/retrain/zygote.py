"""A process that has TensorFlow and Beam imported, and forks one more for each command: ten seconds are paid once.

`python -m tests.retrain.zygote` reads one JSON object a line: `words` of the command, `environ`, `out` (file of its
standard output) and `err`. It answers with the child's number, and with its exit code when it has ended. The broker,
the scorer and the model server are stand-ins that obey at once: what they really do is `test_carrying_kafka`'s matter.
"""

import contextlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any


def stand_ins() -> None:
    """A server that has every version, a scorer that takes every assignment, a parity gate without a difference."""
    import msgspec
    import sqlalchemy as sa

    from plumbline.assignment import Assignment
    from plumbline.cli import models_releasing, models_site
    from release import carrying, serving, thresholds
    from release.publishing import Sent
    from release.reconcile import Reconciled
    from store.engine import transaction
    from store.release_tables import ReleasePublication

    @contextlib.contextmanager
    def gate(*_: Any) -> Iterator[Any]:
        yield lambda version: {"version": version, "compared": 1000, "different_scores": 0, "different_features": 0}

    def obeyed(stream: Any, *_: Any) -> Any:
        """What was recorded last is active."""
        with transaction(stream.engine) as session:
            newest = session.scalars(
                sa.select(ReleasePublication)
                .where(ReleasePublication.state == "recorded")
                .order_by(ReleasePublication.id.desc())
                .limit(1)
            ).one_or_none()
            active = None if newest is None else msgspec.convert(newest.body, Assignment)
        return Reconciled(active=active)

    for name, answer in (("make_available", ""), ("move_labels", ""), ("let_go", "")):
        setattr(serving, name, lambda *_, answer=answer, **__: answer)
    for module, name, stand_in in (
        (carrying, "reconcile", obeyed),
        (carrying, "send", lambda *_: Sent(1, 0)),
        (carrying, "wait_in_force", lambda *_: None),
        (thresholds, "bring", lambda *_, **__: {}),
        (models_site, "gate", gate),
        (models_releasing, "gate", gate),
    ):
        setattr(module, name, stand_in)


def child(asked: dict[str, Any]) -> None:
    """Run one command and leave with its exit code."""
    for number, file in ((1, asked["out"]), (2, asked["err"])):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
    os.environ.update(asked["environ"])
    from plumbline.cli import main

    code = 70
    try:
        code = main.run(asked["words"])
    except Exception:  # noqa: BLE001 - told, as Python itself would
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Fork on demand until standard input ends."""
    from plumbline.cli.quiet import import_tensorflow_quietly

    import_tensorflow_quietly()
    import keras  # noqa: F401

    import features.analysis  # noqa: F401
    import retrain.night  # noqa: F401
    import training.fit  # noqa: F401

    stand_ins()
    assert threading.active_count() == 1, "what forks has no thread of its own"
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        number = os.fork()
        if not number:
            child(asked)
        print(json.dumps({"pid": number}), flush=True)
        _, status = os.waitpid(number, 0)
        print(json.dumps({"exit": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
