"""The runner with steps that are plain functions: killed at random moments, changed files, a full disk, stops."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from plumbline.errors import Refused, StoreUnavailable, Unready
from retrain.manifest import read_run, read_step
from retrain.run import Asked, Runner
from retrain.steps import Done, Step, Stopped


class Silent:
    """Looks on, and remembers what it was told to notice."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, str]] = []

    def changed(self, manifest) -> None:
        pass

    def told(self, step, done, whole) -> None:
        pass

    def noticed(self, step, what) -> None:
        self.notes.append((step, what))


class Bank:
    """Four steps: each reads the file of the one before and writes a longer one; `ran` counts what was done."""

    NAMES = ("first", "second", "third", "last")

    def __init__(self, root: Path) -> None:
        self.root, self.ran, self.watch = root, [], Silent()
        self.extra = dict.fromkeys(self.NAMES, lambda place: None)
        self.stop, self.check = False, lambda: None
        self.ends = {"last": "shadowed"}
        self.read = {}

    def runner(self, seed=1, code="c" * 64):
        asked = Asked(
            self.root / "retrain" / "runs" / f"night-{seed}", f"night-{seed}", {"seed": seed}, self.root, code, "h", {}
        )  # fmt: skip
        steps = [
            Step(name, self.work(name, before), (before,) if before else (), lambda: dict(self.read))
            for before, name in zip(("", *self.NAMES), self.NAMES, strict=False)
        ]
        return Runner(asked, steps, self.watch, now_us=lambda: 5, stopped=lambda: self.stop, check=self.check)

    def work(self, name, before):
        def run(place):
            text = (place.of(before) / "text").read_text() if before else "begin"
            day = self.root / "retrain" / "days" / f"{name}.day"
            day.parent.mkdir(parents=True, exist_ok=True)
            unfinished = day.with_suffix(".unfinished")
            unfinished.write_text(f"day of {text} {name}")
            unfinished.rename(day)
            self.extra[name](place)
            (place.folder / "text").write_text(f"{text} {name}")
            self.ran.append(name)
            return Done(rows=len(text), facts={"length": len(text)}, shared=(day,), ends=self.ends.get(name, ""))

        return run

    @property
    def folder(self):
        return self.root / "retrain" / "runs" / "night-1"

    def digests(self):
        return {name: read_step(self.folder / name).digest for name in self.NAMES}


@pytest.fixture
def bank(tmp_path):
    return Bank(tmp_path)


def test_every_step_once_and_a_second_call_does_nothing(bank):
    manifest, again = bank.runner().run()
    assert (manifest.verdict, manifest.step, again, bank.ran) == ("shadowed", "", False, list(Bank.NAMES))
    assert read_run(bank.folder) == manifest
    assert (manifest.finished_at, manifest.attempts, [each.state for each in manifest.steps]) == (5, 1, ["done"] * 4)
    assert manifest.of("second").inputs["first"] == manifest.of("first").digest
    assert bank.runner().run() == (manifest, True)
    assert bank.ran == list(Bank.NAMES)
    other, _ = bank.runner(seed=2).run()
    assert (other.run, other.verdict) == ("night-2", "shadowed"), "another seed is another run"


def test_a_step_that_ends_the_run_ends_it(bank):
    bank.ends = {"second": "refused"}
    manifest, _ = bank.runner().run()
    assert (manifest.verdict, manifest.step, bank.ran) == ("refused", "second", ["first", "second"])


def test_an_error_is_kept_and_the_next_start_goes_on(bank):
    def fails(place):
        raise Refused("one class only")

    bank.extra["third"] = fails
    with pytest.raises(Refused, match="one class only"):
        bank.runner().run()
    found = read_run(bank.folder)
    assert (found.verdict, found.step, found.error, found.of("third").state) == (
        "failed", "third", "one class only", "failed",
    )  # fmt: skip
    bank.extra["third"] = lambda place: None
    manifest, _ = bank.runner().run()
    assert (manifest.verdict, manifest.attempts, bank.ran) == ("shadowed", 2, list(Bank.NAMES))


def test_a_part_that_is_away_stops_the_run(bank):
    def away(place):
        raise StoreUnavailable("no SQL")

    bank.extra["last"] = away
    with pytest.raises(StoreUnavailable):
        bank.runner().run()
    assert (read_run(bank.folder).verdict, read_run(bank.folder).error) == ("stopped", "no SQL")


def test_what_a_step_keeps_outlives_a_stop_and_goes_when_it_is_done(bank):
    seen = []

    def half(place):
        seen.append((place.keep / "half").exists())
        (place.keep / "half").write_text("so far")
        if len(seen) == 1:
            raise Stopped

    bank.extra["second"] = half
    with pytest.raises(Stopped):
        bank.runner().run()
    assert read_run(bank.folder).verdict == "stopped"
    bank.runner().run()
    assert seen == [False, True]
    assert not list(bank.folder.glob(".*")), "nothing unfinished is left behind"


def test_what_a_step_kept_for_other_inputs_is_thrown_away(bank):
    seen = []

    def half(place):
        seen.append((place.keep / "half").exists())
        (place.keep / "half").write_text("so far")
        if len(seen) == 1:
            raise Stopped

    bank.extra["second"] = half
    with pytest.raises(Stopped):
        bank.runner().run()
    bank.runner(code="d" * 64).run()
    assert seen == [False, False]


def test_told_to_stop_between_steps(bank):
    def stop(place):
        bank.stop = True

    bank.extra["second"] = stop
    with pytest.raises(Stopped):
        bank.runner().run()
    assert bank.ran == ["first", "second"]
    bank.stop, bank.extra["second"] = False, lambda place: None
    assert bank.runner().run()[0].verdict == "shadowed"
    assert bank.ran == list(Bank.NAMES)


@pytest.mark.parametrize("step", ["first", "third"])
def test_a_changed_output_is_noticed_and_its_step_done_again(bank, step):
    bank.extra["last"] = lambda place: (_ for _ in ()).throw(Refused("later"))
    with pytest.raises(Refused):
        bank.runner().run()
    before = {name: read_step(bank.folder / name).digest for name in Bank.NAMES[:3]}
    (bank.folder / step / "text").write_text("somebody was here")
    bank.extra["last"] = lambda place: None
    bank.runner().run()
    assert bank.ran == [*Bank.NAMES[:3], step, "last"], "what follows read the same, so it stands"
    assert bank.watch.notes == [(step, "text was changed or is gone: it is done again")]
    assert {name: bank.digests()[name] for name in before} == before


def test_a_changed_shared_file_is_removed_and_made_anew(bank):
    bank.extra["last"] = lambda place: (_ for _ in ()).throw(Refused("later"))
    with pytest.raises(Refused):
        bank.runner().run()
    day = bank.root / "retrain" / "days" / "second.day"
    kept = day.read_text()
    day.write_text("somebody was here")
    bank.extra["last"] = lambda place: None
    bank.runner().run()
    assert (bank.ran[3:], day.read_text()) == (["second", "last"], kept)
    assert bank.watch.notes == [("second", "retrain/days/second.day was changed or is gone: it is done again")]


def test_what_reads_something_else_now_is_done_again_and_so_is_what_follows(bank):
    bank.extra["last"] = lambda place: (_ for _ in ()).throw(Refused("later"))
    with pytest.raises(Refused):
        bank.runner().run()
    bank.extra["last"], bank.read = lambda place: None, {"champion": "e" * 64}
    bank.runner().run()
    assert bank.ran == [*Bank.NAMES[:3], *Bank.NAMES]


def test_a_damaged_manifest_is_refused(bank):
    bank.runner().run()
    (bank.folder / "run.json").write_text('{"run": 5')
    with pytest.raises(Refused, match=r"run\.json cannot be read"):
        bank.runner().run()


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from test_runner import Bank

root, rounds, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
killed = 0
for round in range(rounds):
    bank = Bank(root / str(round))
    for name in Bank.NAMES:
        bank.extra[name] = lambda place: [(place.keep / str(n)).write_text("x") for n in range(20)]
    for attempt in range(1000):
        child = os.fork()
        if not child:
            bank.runner().run()
            os._exit(0)
        time.sleep(chance.random() * 0.02 * 1.3**attempt)  # any moment of its life, sooner or later after its end
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:
            break
        killed += 1
print(killed)
"""


def test_killed_at_random_moments_the_result_is_the_same(tmp_path, bank):
    """Each round is started and killed until it ends: SIGKILL falls between any two instructions."""
    rounds = 6
    words = [str(tmp_path / "killed"), str(rounds), str(random.Random(6).randrange(2**32)), str(Path(__file__).parent)]
    done = subprocess.run([sys.executable, "-c", KILLED, *words], check=True, capture_output=True, text=True)
    assert int(done.stdout) >= rounds, "kills fell on the way"
    bank.runner().run()
    whole = bank.digests()
    for number in range(rounds):
        other = Bank(tmp_path / "killed" / str(number))
        assert other.digests() == whole
        found = read_run(other.folder)
        assert (found.verdict, [each.state for each in found.steps]) == ("shadowed", ["done"] * 4)
        assert sorted(each.name for each in other.folder.iterdir()) == ["first", "last", "run.json", "second", "third"]


FULL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_runner import Bank

bank = Bank(Path(sys.argv[1]))
bank.extra["third"] = lambda place: (place.folder / "large").write_bytes(b"x" * 1_000_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    bank.runner().run()
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_full_disk_is_one_sentence_and_the_next_start_goes_on(bank):
    words = [str(bank.root), str(Path(__file__).parent)]
    done = subprocess.run([sys.executable, "-c", FULL, *words], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("Unready the disk of")
    assert "make room; the champion stays, and the same command goes on where it was" in done.stdout
    found = read_run(bank.folder)
    assert (found.verdict, found.step) == ("failed", "third")
    bank.extra["third"] = lambda place: (place.folder / "large").write_bytes(b"x" * 1_000_000)
    manifest, _ = bank.runner().run()
    assert (manifest.verdict, bank.ran) == ("shadowed", ["third", "last"])


def test_a_disk_that_takes_nothing_at_all_leaves_what_stood_there(bank, monkeypatch):
    bank.extra["third"] = lambda place: (_ for _ in ()).throw(Refused("later"))
    with pytest.raises(Refused):
        bank.runner().run()
    before = msgspec.json.encode(read_run(bank.folder))

    def none_left(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("retrain.run.write_run", none_left)
    with pytest.raises(Unready, match="No space left on device"):
        bank.runner().run()
    assert msgspec.json.encode(read_run(bank.folder)) == before


def test_a_killed_child_is_what_the_test_says(tmp_path):
    """The kill is real: a process that dies in the middle of a step leaves it unfinished."""
    bank = Bank(tmp_path)
    child = os.fork()
    if not child:
        bank.extra["second"] = lambda place: os.kill(os.getpid(), signal.SIGKILL)
        bank.runner().run()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert (bank.folder / ".second.unfinished").is_dir()
    assert read_run(bank.folder).verdict == "running"
    assert bank.runner().run()[0].verdict == "shadowed"


def test_a_run_that_lost_its_lock_does_no_further_step_and_the_next_start_goes_on(tmp_path):
    bank = Bank(tmp_path)

    def lost():
        if bank.ran:
            raise StoreUnavailable("the session has ended")

    bank.check = lost
    runner = bank.runner()
    with pytest.raises(StoreUnavailable):
        runner.run()
    assert len(bank.ran) == 1
    assert read_run(tmp_path / "retrain" / "runs" / "night-1").verdict == "stopped"
    bank.check = lambda: None
    manifest, _ = bank.runner().run()
    assert (manifest.verdict, len(bank.ran)) == ("shadowed", 4)
