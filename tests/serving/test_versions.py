"""Which version is served when folders come, go, break and heal; clocks and the loader are the test's own."""

import os

import pytest

from serving.server.config import Policy
from serving.server.model import Model
from serving.server.status import Code, StatusError
from serving.server.versions import SETTLED_SECONDS, Retries, State, Versions, versions_in


class Bench:
    """A base path, clocks that the test moves, and a loader that accepts folders whose file says `good`."""

    def __init__(self, base_path, policy=Policy()):
        self.base_path = base_path
        self.now = 1_000.0
        self.loads = []
        self.during_load = lambda folder: None
        self.wall = 4e9  # long after every file was written
        clocks = (lambda: self.now, lambda: self.wall)
        self.versions = Versions("fraud", base_path, self.load, policy, Retries(2, 60.0), *clocks)

    def load(self, folder, version):
        self.loads.append(version)
        self.during_load(folder)
        if (folder / "saved_model.pb").read_text() != "good":
            raise StatusError(Code.DATA_LOSS, f"{folder.name} is broken")
        return Model(version, {}, {})

    def write(self, version, text="good"):
        (self.base_path / str(version)).mkdir(parents=True, exist_ok=True)
        (self.base_path / str(version) / "saved_model.pb").write_text(text)

    def serving(self):
        self.versions.poll()
        model = self.versions.loaded()
        return model.version if model else None

    def states(self):
        return {each.version: (each.state, each.code) for each in self.versions.statuses()}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "models")


def test_a_base_path_that_is_missing_or_empty_is_waited_for(bench):
    assert bench.serving() is None
    bench.base_path.mkdir()
    assert bench.serving() is None
    assert bench.versions.statuses() == []
    bench.write(1)
    assert bench.serving() == 1


def test_only_numbered_folders_are_versions(tmp_path):
    for name in ("7", "0012", "latest", "8.tmp", "-3", "²", str(1 << 63)):
        (tmp_path / name).mkdir()
    (tmp_path / "9").write_text("a file")
    assert set(versions_in(tmp_path)) == {7, 12}


def test_the_newest_by_number_is_served_and_the_others_are_not_loaded(bench):
    for version in (2, 10, 9):
        bench.write(version)
    assert bench.serving() == 10
    assert bench.loads == [10]
    assert bench.versions.loaded(10)
    assert bench.versions.loaded(9) is None


def test_a_new_version_takes_over_only_once_it_is_loaded(bench):
    bench.write(1)
    bench.serving()
    seen = []
    bench.during_load = lambda folder: seen.append((bench.versions.loaded().version, bench.states()))
    bench.write(2)
    assert bench.serving() == 2
    assert seen == [(1, {1: (State.AVAILABLE, Code.OK), 2: (State.LOADING, Code.OK)})]
    assert bench.states() == {2: (State.AVAILABLE, Code.OK), 1: (State.END, Code.OK)}


def test_a_broken_version_is_refused_with_its_reason_and_the_old_one_goes_on(bench):
    bench.write(1)
    bench.serving()
    bench.write(2, "bad")
    assert bench.serving() == 1
    newest = bench.versions.statuses()[0]
    assert (newest.version, newest.state, newest.code) == (2, State.END, Code.DATA_LOSS)
    assert newest.message == "2 is broken"


def test_a_refused_version_is_left_alone_until_its_files_change(bench):
    bench.write(1)
    bench.write(2, "bad")
    for _ in range(3):
        assert bench.serving() == 1
    assert bench.loads == [2, 1]
    bench.write(2, "good")
    assert bench.serving() == 2
    assert bench.states()[2] == (State.AVAILABLE, Code.OK)


def test_a_refused_version_is_tried_again_after_a_while_and_given_up_in_the_end(bench):
    bench.write(1)
    bench.serving()
    bench.write(2, "bad")
    bench.serving()
    bench.now += 59
    assert bench.serving() == 1
    assert bench.loads == [1, 2]
    for tries in (2, 3, 3, 3):
        bench.now += 60
        assert bench.serving() == 1
        assert bench.loads[1:] == [2] * tries
    bench.write(2, "worse")
    bench.serving()
    assert bench.loads[1:] == [2] * 4, "other files are another matter"
    bench.now += 60
    bench.serving()
    assert bench.loads[1:] == [2] * 5, "and have tries of their own"


def test_a_start_with_a_broken_newest_version_serves_the_one_before(bench):
    bench.write(1)
    bench.write(2, "bad")
    assert bench.serving() == 1


def test_a_folder_is_left_alone_while_it_is_being_written(bench):
    bench.write(1)
    bench.wall = os.stat(bench.base_path / "1" / "saved_model.pb").st_mtime + SETTLED_SECONDS / 2
    assert bench.serving() is None
    assert bench.states() == {1: (State.START, Code.OK)}
    (bench.base_path / "1" / "variables").write_text("more")
    assert bench.serving() is None
    assert bench.loads == []
    assert bench.serving() == 1  # unchanged since the last look


def test_a_version_that_changes_while_it_is_loaded_is_not_served(bench):
    bench.write(1)
    bench.during_load = lambda folder: (folder / "late").write_text(str(len(bench.loads)))
    assert bench.serving() is None
    assert bench.states() == {1: (State.END, Code.ABORTED)}
    bench.during_load = lambda folder: None
    assert bench.serving() == 1


def test_an_empty_folder_is_a_version_that_has_not_come_yet(bench):
    (bench.base_path / "1").mkdir(parents=True)
    assert bench.serving() is None
    assert bench.loads == []


def test_taking_the_newest_folder_away_brings_the_one_before_back(bench):
    bench.write(1)
    bench.write(2)
    assert bench.serving() == 2
    (bench.base_path / "2").rename(bench.base_path / "2.withdrawn")
    assert bench.serving() == 1


def test_the_last_version_goes_on_when_its_folder_is_gone(bench):
    bench.write(1)
    bench.serving()
    (bench.base_path / "1").rename(bench.base_path / "gone")
    assert bench.serving() == 1


def test_several_of_the_newest_are_served_at_once_and_the_oldest_leaves_last(tmp_path):
    bench = Bench(tmp_path / "models", Policy(2))
    for version in (1, 2, 3):
        bench.write(version)
    assert bench.serving() == 3
    assert bench.versions.served() == [2, 3]
    assert bench.versions.loaded(2).version == 2
    assert bench.versions.loaded(1) is None
    bench.write(4, "bad")
    assert bench.serving() == 3
    assert bench.versions.served() == [2, 3], "a broken version takes no other one's place"
    bench.write(5)
    served_while_loading = []
    bench.during_load = lambda folder: served_while_loading.append(bench.versions.served())
    assert bench.serving() == 5
    assert served_while_loading[-1] == [2, 3]
    assert bench.versions.served() == [3, 5]
    assert bench.states()[2] == (State.END, Code.OK)


def test_every_version_is_served_where_the_policy_says_so(tmp_path):
    bench = Bench(tmp_path / "models", Policy(None))
    bench.write(1)
    bench.write(2, "bad")
    bench.write(3)
    assert bench.serving() == 3
    assert bench.versions.served() == [1, 3]
    (bench.base_path / "1").rename(bench.base_path / "gone")
    bench.serving()
    assert bench.versions.served() == [3]


def test_the_versions_that_a_policy_names_are_served_and_no_other_ones(tmp_path):
    bench = Bench(tmp_path / "models", Policy(None, frozenset({1, 3, 9})))
    for version in (1, 2, 3, 4):
        bench.write(version)
    assert bench.serving() == 3
    assert bench.versions.served() == [1, 3]
    assert 4 not in bench.states()


def test_a_policy_may_change_and_the_old_version_stays_until_the_new_one_is_there(bench):
    bench.write(1)
    bench.write(2)
    bench.serving()
    bench.versions.want(bench.base_path, Policy(None, frozenset({1})))
    during = []
    bench.during_load = lambda folder: during.append(bench.versions.served())
    assert bench.serving() == 1
    assert during == [[2]]
    assert bench.versions.served() == [1]
    bench.versions.want(bench.base_path, Policy(None, frozenset({7})))
    assert bench.serving() == 1, "nothing that the policy names is there"


def test_a_model_that_is_no_longer_wanted_lets_every_version_go_and_may_come_back(bench):
    bench.write(1)
    bench.serving()
    bench.versions.want(None)
    assert bench.serving() is None
    assert bench.states() == {1: (State.END, Code.OK)}
    bench.versions.want(bench.base_path)
    assert bench.serving() == 1
