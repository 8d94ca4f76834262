"""Another runner than the embedded one: the same pipelines through a job server, a process of its own, to the bit.

Beam's Flink job server is a jar of some hundred megabytes that not every Maven repository holds. What is tested here is
all but that jar: the command, the lock, the child process, the job API, workers in our process (LOOPBACK). In the jar's
place a `java` of ours starts the job server that Beam's Python wheel carries and that speaks the same protocol.
`python -m benchmarks.beam --json` compares with Flink itself where the jar is at hand.
"""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")

import msgspec
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from features.analysis import write_analysis
from features.declaration import DECLARATION
from features.pieces import read_history
from features.pipeline import Part, write_history
from features.runner import EMBEDDED
from plumbline.cli.beam import flink_command, job_server, runner_of
from plumbline.errors import InvalidSetting, RunnerUnavailable, Unready
from plumbline.settings import Settings
from streaming.broker import java
from streaming.broker.jars import locked, shared_folder
from streaming.broker.java import find_java
from tests.training.small import DAY, DAYS, FIRST, small_archive
from training.dataset import examples, write_rows
from training.export import Transform
from training.past import ensure_history
from training.windows import Days

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FEW = msgspec.structs.replace(DECLARATION, features=(*DECLARATION.numbers[:6], *DECLARATION.categories[:2]))
"""All of history, and a few of the features: how many are analysed says nothing here, and takes time."""

JAVA = f"""#!{sys.executable}
import os, sys
if sys.argv[1:] == ["-version"]:
    sys.exit('openjdk version "17.0.1" 2021-10-19')
given = dict(zip(sys.argv, sys.argv[1:]))
assert given["--flink-master"] == "[local]" and given["-jar"].endswith(".jar"), sys.argv
server = "apache_beam.runners.portability.local_job_service_main"
os.execv(sys.executable, [sys.executable, "-m", server, "--port", given["--job-port"]])
"""


def locked_jar(folder: Path, content: bytes, pinned: bytes) -> Path:
    """A lock that pins one content, and the folder of its jars, which holds another or the same."""
    lock = folder / "flink-jars.lock"
    lock.write_text(f"org.apache.beam:beam-runners-flink-2.2-job-server:2.77.0 {hashlib.sha256(pinned).hexdigest()}\n")
    jars = shared_folder(lock)
    jars.mkdir(parents=True)
    [jar] = locked(lock)
    (jars / jar.file).write_bytes(content)
    return lock


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def standing_in(tmp_path, monkeypatch):
    """Settings that ask for Flink, with a `java` that starts the job server of Beam's wheel."""
    java = tmp_path / "jdk" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(JAVA)
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    return Settings(
        beam_runner="flink",
        flink_jars_lock=str(locked_jar(tmp_path, b"jar", b"jar")),
        data_dir=str(tmp_path / "var"),
    )


def servers() -> list[psutil.Process]:
    """Job servers that are children of this process."""
    return [each for each in psutil.Process().children(recursive=True) if "job_service" in " ".join(each.cmdline())]


def test_history_and_statistics_are_those_of_the_embedded_runner_to_the_bit(tmp_path, standing_in):
    archive = small_archive(tmp_path / "archive")
    train = Days(FIRST // DAY + 20, FIRST // DAY + 40)
    made = {}
    with runner_of(standing_in) as flink:
        assert flink.name == "PortableRunner"
        assert "--environment_type=LOOPBACK" in flink.options
        for name, runner in (("embedded", EMBEDDED), ("job server", flink)):
            folder = tmp_path / name
            history = ensure_history(archive, folder, (FIRST, FIRST + DAYS * DAY), runner=runner)
            write_rows(archive, history, train, train.until_us, folder / "rows.parquet")
            # Both analyse the same file: what differs is theirs.
            write_analysis(
                [tmp_path / "embedded" / "rows.parquet"], folder / "analysis", declaration=FEW, runner=runner
            )
            made[name] = (read_history(history), folder)
        assert len(servers()) == 1
    assert servers() == []
    (ours, here), (theirs, there) = made["embedded"], made["job server"]
    assert theirs.num_rows == 8000
    assert theirs.equals(ours)
    assert pq.read_table(there / "rows.parquet").equals(pq.read_table(here / "rows.parquet"))
    learnt = [Transform(each / "analysis", FEW) for each in (here, there)]
    seen = [examples(here / "rows.parquet", each.features, FEW) for each in learnt]
    assert len(np.unique(seen[0].numbers[:, 0])) > 100
    assert seen[1].numbers.tobytes() == seen[0].numbers.tobytes()
    assert seen[1].categories.tobytes() == seen[0].categories.tobytes()
    assert learnt[1].vocabulary_sizes == learnt[0].vocabulary_sizes


def killed_meanwhile(part):
    """Reads nothing, for the job server is killed as soon as it asked for the rows."""
    [server] = servers()
    server.kill()
    return iter(())


# Beam's own threads lose the server that the test kills.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_job_server_that_dies_is_a_failure_worth_trying_again(tmp_path, standing_in):
    folder = tmp_path / "history"
    folder.mkdir()
    with (
        pytest.raises(RunnerUnavailable, match=r"ended while it was needed \(exit code -9\): see .*flink\.log"),
        runner_of(standing_in) as runner,
    ):
        write_history(killed_meanwhile, [Part("labels", None, None)], folder, keep_us=(0, 1), runner=runner)
    assert list(folder.iterdir()) == []
    assert servers() == []


def test_no_job_server_outlives_a_command_that_is_killed(tmp_path, standing_in):
    script = (
        "import msgspec, psutil, sys\n"
        "from plumbline.cli.beam import runner_of\n"
        "from plumbline.settings import Settings\n"
        "with runner_of(msgspec.json.decode(sys.argv[1], type=Settings)) as runner:\n"
        "    [server] = psutil.Process().children()\n"
        "    print('server', server.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    given = msgspec.json.encode(standing_in).decode()
    command = subprocess.Popen(
        [sys.executable, "-c", script, given], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    told = next(line for line in command.stdout if line.startswith("server "))  # the log comes before it
    server = psutil.Process(int(told.split()[1]))
    assert "job_service" in " ".join(server.cmdline())
    command.send_signal(signal.SIGKILL)
    assert command.wait(30) == -signal.SIGKILL
    # The kernel sends its death signal; whoever adopted it has to notice.
    _, alive = psutil.wait_procs([server], timeout=60)
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []


def test_without_java_it_says_what_to_install(standing_in, monkeypatch):
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(java, "_of_wheel", lambda: None)
    with pytest.raises(Unready, match=r"no Java 17 or newer was found, which Beam's Flink job server needs"):
        flink_command(standing_in)


def test_without_a_lock_it_says_how_to_write_one(tmp_path, standing_in):
    absent = Settings(beam_runner="flink", flink_jars_lock=str(tmp_path / "absent.lock"))
    with pytest.raises(Unready, match=r"relock flink 2\.2 2\.77\.0.*PLUMBLINE_BEAM_RUNNER=embedded"):
        flink_command(absent)


def test_a_jar_that_is_not_the_locked_one_never_runs(tmp_path, standing_in):
    other = tmp_path / "other"
    other.mkdir()
    lock = locked_jar(other, b"cut", b"whole")
    changed = Settings(beam_runner="flink", flink_jars_lock=str(lock))
    with pytest.raises(Unready, match=r"job-server-2\.77\.0\.jar has SHA-256 .* but the lock says"):
        flink_command(changed)


def test_what_java_says_of_a_jar_that_is_none_is_handed_on(tmp_path):
    if find_java() is None:
        pytest.skip("no Java 17 or newer")
    lock = locked_jar(tmp_path, b"no jar", b"no jar")
    given = Settings(beam_runner="flink", flink_jars_lock=str(lock), data_dir=str(tmp_path))
    complaint = r"ended at once \(exit code 1: Error: Invalid or corrupt jarfile .*\): see .*flink\.log"
    with pytest.raises(Unready, match=complaint), runner_of(given):
        pass


def test_a_job_server_that_hangs_is_given_up_and_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("plumbline.cli.beam.START_SECONDS", 0.5)
    deaf = [sys.executable, "-c", "import signal; signal.pause()", "job_service"]
    with (
        pytest.raises(Unready, match="did not answer within"),
        job_server(lambda port, staged: deaf, tmp_path / "log"),
    ):
        pass
    assert servers() == []


@pytest.mark.parametrize(
    ("runner", "options", "missing"),
    [
        ("portable", "--environment_type=LOOPBACK", "--job_endpoint=..."),
        ("dataflow", "--project=bank --region=europe-west1", "--temp_location=... --sdk_container_image=..."),
    ],
)
def test_a_runner_elsewhere_needs_its_flags(runner, options, missing):
    with (
        pytest.raises(InvalidSetting, match="PLUMBLINE_BEAM_OPTIONS") as caught,
        runner_of(Settings(beam_runner=runner, beam_options=options)),
    ):
        pass
    assert caught.value.allowed == f"also {missing}"


def test_flags_of_ours_win_over_defaults(standing_in, tmp_path):
    given = Settings(beam_runner="portable", beam_options="--job_endpoint=jobs:8099 --environment_type=DOCKER")
    with runner_of(given) as runner:
        assert runner.options == ("--job_endpoint=jobs:8099", "--environment_type=DOCKER")
    with runner_of(Settings()) as runner:
        assert runner == EMBEDDED
