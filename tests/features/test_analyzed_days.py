"""Analysis day by day: the same statistics to the bit, whether a day was analysed now, long ago, or once more."""

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from features.analysis import raw_names, write_analysis
from features.analyzed_days import SUFFIX, Analyzed, analyze_days, gather_here, gather_on, remove_others, versions
from features.declaration import DECLARATION
from features.grammar import RAW_STRINGS
from features.runner import EMBEDDED
from plumbline.errors import InvalidArchive, Refused
from retrain.analysis import analysis
from retrain.rows import DayFile, DayFiles

pytestmark = pytest.mark.timeout(900)

DECLARED = msgspec.structs.replace(DECLARATION, features=(*DECLARATION.numbers[:4], *DECLARATION.categories))
"""A few of the numbers: how many there are says nothing here, and takes time."""


def day_file(folder, number, rows=300, **constant):
    random = np.random.default_rng(number)
    columns = {name: random.integers(0, 10**6, rows + number) for name in raw_names(DECLARED)}
    for name in RAW_STRINGS:
        columns[name] = random.choice(["A", "B", "C", f"D{number}"], rows + number)
    columns |= {name: [value] * (rows + number) for name, value in constant.items()}
    pq.write_table(pa.table(columns), folder / f"{number}.parquet")
    return folder / f"{number}.parquet"


def statistics(folder):
    """Vocabularies, and the features of some rows, which every mean and variance enters."""
    output = tft.TFTransformOutput(str(folder))
    words = {each.name: output.vocabulary_by_name(each.name) for each in DECLARED.categories}
    random = np.random.default_rng(9)
    layer = output.transform_features_layer()
    rows = {"history": tf.constant(random.integers(0, 10**6, (64, len(DECLARED.history))))}
    for name in raw_names(DECLARED)[len(DECLARED.history) :]:
        rows[name] = tf.constant(["A"] * 64 if name in RAW_STRINGS else random.integers(0, 10**6, 64))
    return words, {name: value.numpy().tobytes() for name, value in layer(rows).items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three days analysed in one night; and of another night the first two, one of them damaged since."""
    folder = tmp_path_factory.mktemp("analysis")
    files = {f"2018-07-0{n}": day_file(folder, n) for n in range(1, 4)}
    whole = analyze_days(files, folder / "whole", folder / "one", declaration=DECLARED)
    assert whole == Analyzed(cached=0, analyzed=3, damaged=0)
    (folder / "two").mkdir()
    paths = {key: folder / "two" / f"{key}.{versions(DECLARED)}{SUFFIX}" for key in list(files)[:2]}
    gather_here({key: files[key] for key in paths}, paths, DECLARED, lambda _done, _whole: None)
    spoilt = paths["2018-07-02"]
    spoilt.write_bytes(spoilt.read_bytes()[:70] + b"!" + spoilt.read_bytes()[71:])
    return folder, files


def test_the_second_night_looks_at_what_is_new_or_damaged_and_finds_the_same_bits(made):
    folder, files = made
    found = analyze_days(files, folder / "second", folder / "two", declaration=DECLARED)
    assert found == Analyzed(cached=1, analyzed=2, damaged=1)
    assert statistics(folder / "second") == statistics(folder / "whole")
    kept = {each.name: each.read_bytes() for each in sorted((folder / "one").iterdir())}
    assert kept == {each.name: each.read_bytes() for each in sorted((folder / "two").iterdir())}
    assert len(kept) == 3


def test_a_pipeline_gathers_the_same_bytes_as_this_process(made):
    folder, files = made
    paths = {key: folder / f"{key}{SUFFIX}" for key in list(files)[:2]}
    gather_on({key: files[key] for key in paths}, paths, DECLARED, EMBEDDED)
    for key, path in paths.items():
        assert path.read_bytes() == next((folder / "one").glob(f"{key}*")).read_bytes()


def test_days_merged_are_the_whole_analysed_at_once(made):
    folder, files = made
    write_analysis(files.values(), folder / "plain", declaration=DECLARED)
    plain_words, plain = statistics(folder / "plain")
    words, features = statistics(folder / "whole")
    assert words == plain_words
    for name, raw in features.items():
        distance = np.abs(np.frombuffer(raw, np.float32) - np.frombuffer(plain[name], np.float32)).max()
        assert distance <= 1e-6, name  # sums of float64 in another order; equal but for a rounding to float32


def test_other_days_and_declarations_are_removed_and_never_taken(tmp_path):
    assert versions(DECLARED) != versions(DECLARATION)
    keep = f"2018-07-01.{versions(DECLARED)}{SUFFIX}"
    for name in (keep, f"2018-07-01.{versions(DECLARATION)}{SUFFIX}", f"2018-06-01.{versions(DECLARED)}{SUFFIX}"):
        (tmp_path / name).write_text("")
    assert remove_others(tmp_path, ["2018-07-01"], DECLARED) == 2
    assert [each.name for each in tmp_path.iterdir()] == [keep]


def test_no_day_is_no_analysis(tmp_path):
    with pytest.raises(InvalidArchive, match="files of rows is 0"):
        analyze_days({}, tmp_path / "graph", tmp_path / "cache", declaration=DECLARED)


def test_a_category_without_a_value_is_refused_by_its_name(tmp_path):
    file = day_file(tmp_path, 1, mcc="")
    rows = tmp_path / "rows"
    rows.mkdir()
    listed = DayFiles(str(tmp_path), (DayFile(file.name, "0" * 64, 301, "train"),))
    (rows / "days.json").write_bytes(msgspec.json.encode(listed))
    (tmp_path / "out").mkdir()
    with pytest.raises(Refused, match="column mcc has no value in any row of the training days"):
        analysis(tmp_path / "out", rows=rows, cache=tmp_path / "cache", declaration=DECLARED)
