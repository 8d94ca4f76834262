"""Two nights never run at once, and who is second hears who is first."""

import os
import signal
import subprocess
import sys
import time

import pytest
import sqlalchemy as sa

from plumbline.errors import Refused, StoreUnavailable
from retrain.lock import Holder, held, held_in_sql

HOLDS = """
import sys, time
from pathlib import Path
from retrain.lock import Holder, held
with held(Path(sys.argv[1]), Holder(1234, "other", "2026-01-31", 5, "2026-01-31 01:00")):
    print("held", flush=True)
    time.sleep(600)
"""
OURS = Holder(os.getpid(), "here", "2026-01-31", 6, "2026-01-31 02:00")


def test_the_second_is_refused_until_the_first_is_gone_however_it_went(tmp_path):
    file = tmp_path / "retrain" / "lock"
    other = subprocess.Popen([sys.executable, "-c", HOLDS, str(file)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    told = "run 2026-01-31, process 1234 on other, since 2026-01-31 01:00 UTC"
    with pytest.raises(Refused, match=told), held(file, OURS):
        pass
    other.send_signal(signal.SIGKILL)
    other.wait()
    end = time.monotonic() + 10
    while True:  # the kernel lets go as the process ends
        try:
            with held(file, OURS), pytest.raises(Refused, match=f"process {os.getpid()} on here"), held(file, OURS):
                pass
        except Refused:
            if time.monotonic() > end:
                raise
        else:
            break


@pytest.mark.postgres
def test_on_postgresql_the_database_holds_it_too(postgres):
    address = postgres()
    one, other = sa.create_engine(address), sa.create_engine(address)
    with held_in_sql(one), pytest.raises(Refused, match="on this database"), held_in_sql(other):
        pass
    with held_in_sql(other):
        pass
    one.dispose()
    other.dispose()


@pytest.mark.postgres
def test_a_lock_whose_session_ended_is_not_held_any_more(postgres):
    address = postgres()
    one, other = sa.create_engine(address), sa.create_engine(address)
    with held_in_sql(one) as check:
        check()
        check()
        with other.begin() as connection:
            ended = connection.scalars(sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            )).all()  # fmt: skip
        assert ended == [True]
        with held_in_sql(other):  # another run has begun
            for _ in range(2):  # also once the driver has another session
                with pytest.raises(StoreUnavailable, match="start the same command again"):
                    check()
        with pytest.raises(StoreUnavailable):
            check()
    one.dispose()
    other.dispose()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_lock_whose_file_was_removed_is_not_held_any_more(tmp_path, replaced):
    file = tmp_path / "lock"
    with held(file, OURS) as check:
        check()
        file.unlink()
        if replaced:
            with held(file, OURS), pytest.raises(Refused, match="was removed or replaced while this run held it"):
                check()
        with pytest.raises(Refused, match="another one may be at work"):
            check()
    with held(file, OURS) as check:
        check()


def test_sqlite_lies_beside_the_file(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/a.db")
    with held_in_sql(engine) as check, held_in_sql(engine):
        check()
    engine.dispose()
