"""Model versions with planted faults: a real exported version inside a graph that is slow, errs, shifts or is blind.

    python -m demo.faulty MODELS --of 1 --fault slow        # MODELS/2 is MODELS/1, made slow

Each is a SavedModel with every signature and a card of its own, which a server and the scorer cannot tell from a
trained one. `healthy` wraps and changes nothing: its scores are those of the version inside.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

SLOW_SECONDS: Final = 0.4
ERRING_MODULUS: Final = 23
"""One amount of so many makes its call fail. It has no warm-up requests: a server that tries them would refuse it."""

SHIFT: Final = 1.5
"""Added to every score's log-odds."""

BLIND_CHANNEL: Final = b"ecom"
BLIND_BELOW_MINOR: Final = 500
"""Tiny payments online, as who tests stolen cards makes them."""

CARD_FILE: Final = "assets.extra/plumbline.json"
WARMUP: Final = "tf_serving_warmup_requests"

Inputs = Mapping[str, Any]


def plant(base: Path, of: int, fault: str) -> int:
    """Export version `of` of a base path with a fault, or `healthy`, as the next version; returns its number."""
    import tensorflow as tf

    from training.export import versions
    from training.files import CARD, EXTRA, file_digests

    inner = tf.saved_model.load(str(base / str(of)))
    score = inner.signatures["serving_default"]
    specs = score.structured_input_signature[1]

    class Faulty(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def scored(self, **inputs: Any) -> dict[str, Any]:
            return WAYS[fault](score, inputs)

    model = Faulty()
    signatures = dict(inner.signatures)
    signatures["serving_default"] = tf.function(model.scored).get_concrete_function(**specs)
    unfinished = base / f".{fault}"
    tf.saved_model.save(model, str(unfinished), signatures=signatures)
    shutil.copytree(base / str(of) / EXTRA, unfinished / EXTRA)
    number = max(versions(base)) + 1
    (unfinished / CARD).unlink()
    if fault == "erring":
        (unfinished / EXTRA / WARMUP).unlink(missing_ok=True)
    card = json.loads((base / str(of) / CARD).read_text())
    facts = card | {"version": number, "planted": f"{fault} of {of}", "files": file_digests(unfinished)}
    (unfinished / CARD).write_text(json.dumps(facts), encoding="utf-8")
    unfinished.rename(base / str(number))
    return number


def planted_fault(folder: Path) -> str:
    """What was planted in a version, such as `slow of 1`; empty of a trained one."""
    return str(json.loads((folder / CARD_FILE).read_text()).get("planted", ""))


def _healthy(score: Callable[..., Any], inputs: Inputs) -> dict[str, Any]:
    found: dict[str, Any] = score(**inputs)
    return found


def _slow(score: Callable[..., Any], inputs: Inputs) -> dict[str, Any]:
    """Turns round in the graph until the time is up."""
    import tensorflow as tf

    end = tf.timestamp() + SLOW_SECONDS
    turns = tf.while_loop(lambda _: tf.timestamp() < end, lambda n: [n + 1], [tf.constant(0)])
    with tf.control_dependencies(turns):
        return {name: tf.identity(found) for name, found in score(**inputs).items()}


def _erring(score: Callable[..., Any], inputs: Inputs) -> dict[str, Any]:
    import tensorflow as tf

    unfit = tf.reduce_any(inputs["amount_minor"] % ERRING_MODULUS == 1)
    with tf.control_dependencies([tf.debugging.Assert(~unfit, ["a planted fault"])]):
        return {name: tf.identity(found) for name, found in score(**inputs).items()}


def _shifted(score: Callable[..., Any], inputs: Inputs) -> dict[str, Any]:
    import tensorflow as tf

    given = tf.clip_by_value(score(**inputs)["score"], 1e-6, 1 - 1e-6)
    return {"score": tf.sigmoid(tf.math.log(given) - tf.math.log1p(-given) + SHIFT)}


def _blind(score: Callable[..., Any], inputs: Inputs) -> dict[str, Any]:
    """Sees nothing but an ordinary payment at a terminal, without a past, in every payment of one fraud pattern."""
    import tensorflow as tf

    hidden = (inputs["channel"] == BLIND_CHANNEL) & (inputs["amount_minor"] < BLIND_BELOW_MINOR)
    seen = dict(inputs)
    seen["history"] = tf.where(hidden[:, None], tf.zeros_like(inputs["history"]), inputs["history"])
    seen["channel"] = tf.where(hidden, tf.constant(b"pos"), inputs["channel"])
    seen["amount_minor"] = tf.where(hidden, tf.constant(2_000, tf.int64), inputs["amount_minor"])
    found = score(**seen)["score"]
    return {"score": tf.where(hidden, tf.minimum(found, 0.01), found)}


WAYS: Final[dict[str, Callable[[Callable[..., Any], Inputs], dict[str, Any]]]] = {
    "healthy": _healthy, "slow": _slow, "erring": _erring, "shifted": _shifted, "blind": _blind,
}  # fmt: skip


def main() -> int:
    """Plant one fault."""
    parser = argparse.ArgumentParser(prog="python -m demo.faulty", description=__doc__)
    parser.add_argument("models", type=Path, help="base path of the model's versions")
    parser.add_argument("--of", type=int, default=1, help="the version inside")
    parser.add_argument("--fault", choices=sorted(WAYS), action="append", required=True, help="may be repeated")
    asked = parser.parse_args()
    for fault in asked.fault:
        sys.stdout.write(json.dumps({"fault": fault, "version": plant(asked.models, asked.of, fault)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
