"""How much fraud is found on public data: ours beside tuned peers, on the same rows and the same features.

    python -m benchmarks.quality --json
    python -m benchmarks.quality --only handbook_b --models ours,xgboost --seeds 2 --work FOLDER --json
    python -m benchmarks.quality --through-kafka --json

Protocols (`benchmarks.protocols`): handbook A, B, B60, and sparkov. Peers (`benchmarks.peers`): logistic regression,
random forest, XGBoost, LightGBM, each tuned on earlier folds. Ours is the default recipe, seed by seed. Every fitted
model's scores are kept in --work as they come, so that a run that was cut goes on, and nothing is fitted twice.

Keys: PROTOCOL_ap (ours, mean over folds and seeds), _ap_low and _ap_high (95 % by bootstrap over accounts), _cp100; the
same with _xgboost and so on; _ap_over_xgboost with _low and _high: ours less XGBoost on the same resamples;
published_lr_ap and published_rf_ap: the Handbook's own models on its own features, as a check of rows and metrics
(0.606 and 0.658 are published). `docs/quality.md` has the table.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.protocols import NAMES
from plumbline.errors import PlumblineError

SHARED: Final = Path("../shared/data")
MODELS: Final = ("logistic_regression", "random_forest", "xgboost", "lightgbm", "ours")
PARTS: Final = ("published", *NAMES)


def main() -> int:
    """Run it; exit code 1 when data is missing, or the stream's metrics differ from the offline ones."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--handbook", type=Path, default=SHARED / "handbook", help="folder of transactions-*.parquet")
    parser.add_argument("--sparkov", type=Path, default=SHARED / "sparkov", help="folder of transactions-*.parquet")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, by commas: {', '.join(PARTS)}")
    parser.add_argument("--models", default=",".join(MODELS), help=f"by commas: {', '.join(MODELS)}")
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds ours is fitted with")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap over accounts")
    parser.add_argument("--work", type=Path, help="folder that keeps rows and scores; else one that is thrown away")
    parser.add_argument("--through-kafka", action="store_true", help="instead: the stream's scores against training's")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    options = parser.parse_args()
    for given, allowed in ((options.only, PARTS), (options.models, MODELS)):
        unknown = set(given.split(",")) - set(allowed)
        if unknown:
            parser.error(f"{', '.join(sorted(unknown))}: expected some of {', '.join(allowed)}")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")  # before TensorFlow is imported
    try:
        if options.through_kafka:
            from benchmarks.stream_quality import run as stream

            result = stream(options.handbook, 0, through_kafka=True)
        elif options.work is not None:
            options.work.mkdir(parents=True, exist_ok=True)
            result = run(options, options.work)
        else:
            with tempfile.TemporaryDirectory(prefix="plumbline-quality-") as folder:
                result = run(options, Path(folder))
    except PlumblineError as error:
        print(f"benchmarks.quality: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result, indent=None if options.json else 2))
    return int(result.get("stream_equal", 1) != 1)


def run(options: Any, work: Path) -> dict[str, Any]:
    """Every part that was asked for; what is done stands in work/results.json while the rest is still at work."""
    from benchmarks.compared import compare
    from benchmarks.published import reproduce

    parts, models = options.only.split(","), options.models.split(",")
    results: dict[str, Any] = {}
    for part in (each for each in PARTS if each in parts):
        began = time.monotonic()
        if part == "published":
            results |= reproduce(options.handbook)
        else:
            data_set = "sparkov" if part == "sparkov" else "handbook"
            source = options.sparkov if part == "sparkov" else options.handbook
            results |= compare(part, data_set, source, models, options.seeds, options.resamples, work, _tell)
        results[f"{part}_seconds"] = round(time.monotonic() - began, 1)
        (work / "results.json").write_text(json.dumps(results, indent=2))
    return results


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
