"""`plumbline play`: an archive's transactions and labels as its platform sent them; or an endless bank's."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


def play(
    archive: Annotated[
        str, typer.Option(help="Folder of the archive; archive/ in the data folder when not given.")
    ] = "",
    bank: Annotated[
        Path | None,
        typer.Option(
            help="JSON file of a simulated bank, played in place of an archive and without an end: at --rate while its "
            "payments lie in the past, and each at its own time from then on."
        ),
    ] = None,
    since: Annotated[datetime | None, typer.Option(help="Send arrivals from this time on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Send arrivals before this time (UTC).")] = None,
    from_sequence: Annotated[
        int | None, typer.Option(help="Leave out rows before this sequence: where an earlier play ended.")
    ] = None,
    to_sequence: Annotated[int | None, typer.Option(help="With --bank: leave out rows from this sequence on.")] = None,
    rate: Annotated[float, typer.Option(min=0, help="Messages a second, evenly.")] = 0.0,
    lapse: Annotated[float, typer.Option(min=0, help="The archive's own rhythm, faster by this factor.")] = 0.0,
    at_most: Annotated[bool, typer.Option("--max", help="As fast as Kafka takes it (this is the default).")] = False,
    labels: Annotated[bool, typer.Option(help="Send the labels too.")] = True,
    shift_to_now: Annotated[
        bool, typer.Option("--shift-to-now", help="Move all times by one constant, so that the first arrival is now.")
    ] = False,
    id_suffix: Annotated[
        str, typer.Option(help="Appended to every id, so that a replay repeats none that was decided before.")
    ] = "",
    in_step: Annotated[
        bool,
        typer.Option("--in-step", help="Wait for the scorer at every label: the journal gets the archive's order."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Send transactions and labels to their topics, in order of arrival; Ctrl-C stops cleanly."""
    import json
    import signal
    import sys
    import threading
    import time
    from dataclasses import asdict
    from functools import partial

    from rich.console import Console

    from archive.layout import open_archive
    from archive.simulation.run import read_plan
    from archive.simulation.stream import EndlessArrivals
    from plumbline.errors import InvalidSetting
    from plumbline.settings import load
    from streaming import play as playing

    if sum([rate > 0, lapse > 0, at_most]) > 1:
        raise InvalidSetting("command line", "pace", "several", "one of --rate, --lapse and --max")
    settings = load()
    since_us, until_us = _time_us(since), _time_us(until)
    source: playing.Arrivals
    total: int | None
    if bank is not None:
        if archive or lapse > 0 or shift_to_now or (not rate and until_us is None and to_sequence is None):
            raise InvalidSetting(
                "command line",
                "--bank",
                str(bank),
                "--rate, --until or --to-sequence beside it, no --archive, --lapse, --shift-to-now",
            )
        source, total, first_us = EndlessArrivals(read_plan(bank)), None, 0
        # Its sequence is the time of arrival: without this, all days up to there would be made in vain.
        since_us = max(since_us or 0, from_sequence or 0) or None
        until_us = min((each for each in (until_us, to_sequence) if each is not None), default=None)
    else:
        source = open_archive(archive or settings.data_path / "archive")
        total, first_us = playing.extent(source, since_us, until_us, from_sequence, labels)
    begun = time.monotonic()
    if bank is not None and rate > 0:
        due = playing.real_time(rate, lambda: time.time_ns() // 1000, lambda: time.monotonic() - begun)
    elif rate > 0:
        due = playing.per_second(rate)
    else:
        due = playing.time_lapse(lapse, first_us) if lapse > 0 else playing.unpaced()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())

    send = partial(
        playing.play,
        source,
        settings.kafka_bootstrap,
        settings.topic_prefix,
        due=due,
        stop=stop,
        now_us=lambda: time.time_ns() // 1000,
        since_us=since_us,
        until_us=until_us,
        from_sequence=from_sequence,
        with_labels=labels,
        shift_us=time.time_ns() // 1000 - first_us if shift_to_now else 0,
        id_suffix=id_suffix,
        in_step=in_step,
        max_age_days=settings.message_max_age_days,
    )
    with _bar(Console(stderr=True)) as bar:
        task = bar.add_task("playing", total=total)
        done = send(progress=lambda sent, _at: bar.advance(task, sent))
    if as_json:
        print(json.dumps(asdict(done)))
    else:
        state = "Sent" if done.complete else "Stopped after sending"
        print(f"{state} {done.transactions:,} transactions and {done.labels:,} labels in {done.seconds:.1f} s.")
    if not done.complete and done.next_sequence is not None:
        print(f"Go on with --from-sequence {done.next_sequence}.", file=sys.stderr)


def _time_us(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.replace(tzinfo=UTC).timestamp()) * 1_000_000


def _bar(console: "Console") -> "Progress":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=not console.is_terminal,
    )
