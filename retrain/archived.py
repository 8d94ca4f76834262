"""The steps of a night from data to statistics: archive, labels, history, rows, analysis."""

from typing import TYPE_CHECKING, Any

import msgspec

from retrain.plan import windows_of
from retrain.steps import Done, Place
from training.windows import Windows

if TYPE_CHECKING:
    from retrain.night import Night


def archive(night: "Night", place: Place) -> Done:
    """Pin what the night may see."""
    from retrain import sources

    facts = sources.archive(
        place.folder, archive=night.archive, journal=night.journal, cut_off_us=night.plan.cut_off_us,
        cache=night.blocks, clock=night.plan.clock, tell=place.tell,
    )  # fmt: skip
    days = windows_of(sources.open_sources(place.folder).span_us[0], night.plan)
    return Done(facts["rows"], {**facts, "train": str(days.train), "test": str(days.test)})


def windows(night: "Night", place: Place) -> Windows:
    """Training and test days of a night whose sources are pinned."""
    from retrain import sources

    return windows_of(sources.open_sources(place.of("archive")).span_us[0], night.plan)


def labels(night: "Night", place: Place) -> Done:
    """Write down what was known of each row, for training and for the test."""
    from retrain.empty_days import day_number
    from retrain.labels import LabelRules
    from retrain.labels import labels as run

    facts = run(
        place.folder, sources=place.of("archive"), windows=windows(night, place),
        tell=place.tell,
        rules=LabelRules(
            maturity_days=night.plan.delay_days, empty_days=tuple(day_number(day) for day in night.plan.empty_days)
        ),
    )  # fmt: skip
    (place.folder / "facts.json").write_bytes(msgspec.json.format(msgspec.json.encode(facts)) + b"\n")
    return Done(int(facts["labels"]), facts)


def history(night: "Night", place: Place) -> Done:
    """Find history that was logged, and compute what was not."""
    from retrain.history import history as run

    facts = run(
        place.folder, sources=place.of("archive"), days=night.days, windows=windows(night, place),
        declaration=night.declaration, runner=night.runner, tell=place.tell,
    )  # fmt: skip
    return Done(_sum(facts, "rows_logged", "rows_recomputed", "rows_archive"), facts)


def rows(night: "Night", place: Place) -> Done:
    """Write the days that are new, and the rows of both windows."""
    from retrain.rows import day_files
    from retrain.rows import rows as run

    facts = run(
        place.folder, sources=place.of("archive"), truth=place.of("labels"), history=place.of("history"),
        days=night.days, windows=windows(night, place), declaration=night.declaration, tell=place.tell,
    )  # fmt: skip
    files = (*day_files(place.folder, "train"), *day_files(place.folder, "test"))
    return Done(_sum(facts, "rows_train", "rows_test"), facts, shared=files)


def analysis(night: "Night", place: Place) -> Done:
    """Have TFT look over the training days, those that are new."""
    night.load()
    from retrain.analysis import analysis as run
    from training.placed import strategy

    strategy(night.plan.devices)  # before TensorFlow's first operation settles the devices
    facts = run(
        place.folder, rows=place.of("rows"), cache=night.analyzed, declaration=night.declaration,
        runner=night.runner, tell=place.tell,
    )  # fmt: skip
    return Done(int(facts["days"]), facts)


def _sum(facts: dict[str, Any], *names: str) -> int:
    return sum(int(facts.get(name, 0)) for name in names)
