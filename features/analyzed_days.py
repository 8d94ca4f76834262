"""Layer 3 in bulk, night after night: each day is analysed once, and what was found of it is kept.

    CACHE/KEY.VERSIONS.analyzed    what TFT's analyzers gathered from one file of rows, with its own SHA-256

The analyzers' accumulators (counts, means, variances, how often each value came) of a day do not depend on other days,
so a night analyses only the files that no earlier night did: in this process, or, for a runner of many machines, by
TFT's `AnalyzeDatasetWithCache` with a key a day, which gathers the same bytes. The statistics are always merged from
these accumulators, file after file in the order given, by the embedded runner: so they are the same bits whether a day
was analysed now or long ago, here or elsewhere, and a cache that was lost changes nothing but the time it takes.

A key stands for a file's bytes. The versions stand for the declaration, its code's meaning, and the packages that read
and merge what is kept; where one of them changes, everything is analysed again and nothing old is misread.
"""

import base64
import functools
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

import apache_beam as beam
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.beam.analyzer_cache import DatasetCache, DatasetKey

from features.analysis import adapter, batches, column_batches
from features.analyzers import Analyzers
from features.grammar import Declaration
from features.pipeline import quiet
from features.preprocessing import preprocessing_fn
from features.runner import EMBEDDED, Runner, pipeline_on
from plumbline.errors import InvalidArchive, Unready

FORMAT: Final = 1
SUFFIX: Final = ".analyzed"
DAYS_AT_ONCE: Final = 16
"""Files analysed in one pipeline: each adds stages, and a pipeline of hundreds takes long to plan."""

_PACKAGES: Final = ("apache-beam", "numpy", "tensorflow", "tensorflow-transform", "tfx-bsl")

Tell = Callable[[int, int], None]
"""Called with how many files are done, and how many steps there are in all."""

Entries = Mapping[bytes, Sequence[bytes]]
"""What TFT gathered, encoded, by the name it gives it."""


@dataclass(frozen=True, slots=True)
class Analyzed:
    """Files whose analysis was there, those that were analysed now, and kept files that could not be used."""

    cached: int
    analyzed: int
    damaged: int


def analyze_days(
    files: Mapping[str, Path],
    folder: Path,
    cache: Path,
    *,
    declaration: Declaration,
    runner: Runner = EMBEDDED,
    tell: Tell = lambda done, whole: None,
) -> Analyzed:
    """Write TFT's transform graph of some files of rows into a folder, analysing only those that never were.

    files: Parquet with the columns `features.analysis.raw_names`, by a key that stands for the bytes (letters, digits,
    `-._`), in the order in which they are merged; cache: folder that is kept from night to night, and which the
    runner's workers can write to; runner: of Beam, for the files that are analysed now.
    Raises InvalidArchive where there is no file at all, Unready when the disk is full.
    """
    if not files:
        raise InvalidArchive("analysis", "files of rows", 0, "one or more")
    cache.mkdir(parents=True, exist_ok=True)
    paths = {key: cache / f"{key}.{versions(declaration)}{SUFFIX}" for key in files}
    found = {key: read_entries(path) for key, path in paths.items()}
    damaged = sum(each is None and paths[key].exists() for key, each in found.items())
    missing = [key for key, each in found.items() if each is None]
    if runner == EMBEDDED:
        gather_here({key: files[key] for key in missing}, paths, declaration, tell)
    else:
        for begin in range(0, len(missing), DAYS_AT_ONCE):
            tell(begin, len(missing) + 1)
            chosen = {key: files[key] for key in missing[begin : begin + DAYS_AT_ONCE]}
            gather_on(chosen, paths, declaration, runner)
    for key in missing:
        if (entries := read_entries(paths[key])) is None:
            raise Unready(
                f"{paths[key]} was not written by the workers of {runner.name}: the folder must be one that they share"
            )
        found[key] = entries
    tell(len(missing), len(missing) + 1)
    _merge([each for each in found.values() if each is not None], folder, declaration)
    return Analyzed(len(files) - len(missing), len(missing), damaged)


def remove_others(cache: Path, keys: Iterable[str], declaration: Declaration) -> int:
    """Remove what is kept of other files, declarations and versions; returns how many there were."""
    wanted = {f"{key}.{versions(declaration)}{SUFFIX}" for key in keys}
    others = [each for each in cache.glob(f"*{SUFFIX}") if each.name not in wanted]
    for each in (*others, *cache.glob(f".*{SUFFIX}.partial")):
        each.unlink(missing_ok=True)
    return len(others)


@functools.cache
def versions(declaration: Declaration) -> str:
    """12 digits that stand for everything but the rows that decides what is gathered, and how it is written."""
    installed = [f"{name}=={metadata.version(name)}" for name in _PACKAGES]
    made_of = [f"format {FORMAT}", declaration.fingerprint, f"python {sys.version_info.major}.{sys.version_info.minor}"]
    return hashlib.sha256("\n".join([*made_of, *installed]).encode()).hexdigest()[:12]


def read_entries(file: Path) -> Entries | None:
    """What was kept of a file of rows; None where it is not there, or was damaged."""
    try:
        sha256, body = file.read_bytes().split(b"\n", 1)
        if hashlib.sha256(body).hexdigest().encode() != sha256:
            return None
        return {
            base64.b64decode(key): [base64.b64decode(value) for value in values]
            for key, values in json.loads(body).items()
        }
    except (OSError, ValueError):
        return None


def gather_here(files: Mapping[str, Path], paths: Mapping[str, Path], declaration: Declaration, tell: Tell) -> None:
    """Analyse files, each by itself, in this process, and keep what was gathered of each as soon as it is."""
    analyzers: Analyzers | None = None
    for done, (key, file) in enumerate(files.items()):
        tell(done, len(files) + 1)
        analyzers = analyzers or Analyzers(declaration)
        _keep(paths[key], analyzers.gather(column_batches(declaration, str(file))))


def gather_on(files: Mapping[str, Path], paths: Mapping[str, Path], declaration: Declaration, runner: Runner) -> None:
    """The same by a pipeline, on any runner, for all files at once."""
    beside = next(iter(paths.values())).parent
    with (
        tempfile.TemporaryDirectory(dir=beside, prefix=".analysis-") as scratch,
        quiet(),
        pipeline_on(runner) as pipeline,
        tft_beam.Context(temp_dir=scratch),
    ):
        rows = {}
        for n, (key, file) in enumerate(files.items()):
            named = pipeline | f"File {n}" >> beam.Create([str(file)])
            rows[DatasetKey(key)] = named | f"Read {n}" >> beam.FlatMap(functools.partial(batches, declaration))
        analyse = tft_beam.AnalyzeDatasetWithCache(functools.partial(preprocessing_fn, declaration))
        _, gathered = (rows, {}, adapter(declaration)) | "Analyse" >> analyse
        parts = []
        for n, (dataset, entries) in enumerate(gathered.items()):
            for m, (name, values) in enumerate(entries.items()):
                parts.append(values | f"Name {n} {m}" >> beam.Map(_named, dataset.key, name))
        written = {DatasetKey(key).key: str(paths[key]) for key in files}
        _ = (
            parts
            | "All" >> beam.Flatten()
            | "By file" >> beam.GroupByKey()
            | "Keep" >> beam.MapTuple(functools.partial(_keep_gathered, written))
        )


def _named(value: bytes, dataset: str, name: bytes) -> tuple[str, tuple[bytes, bytes]]:
    return dataset, (name, value)


def _keep_gathered(written: Mapping[str, str], dataset: str, entries: Iterable[tuple[bytes, bytes]]) -> None:
    found: dict[bytes, list[bytes]] = {}
    for name, value in entries:
        found.setdefault(name, []).append(value)
    _keep(Path(written[dataset]), found)


def _keep(file: Path, entries: Entries) -> None:
    """Keep what was gathered of one file, at one stroke; entries ascend, whatever order a runner brings."""
    plain = {base64.b64encode(name).decode(): sorted(values) for name, values in entries.items()}
    coded = {name: [base64.b64encode(value).decode() for value in values] for name, values in plain.items()}
    body = json.dumps(coded, sort_keys=True).encode()
    unfinished = file.with_name(f".{file.name}.partial")
    try:
        unfinished.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        unfinished.replace(file)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise Unready(f"{file.parent} cannot keep an analysis ({error.strerror}): make room there") from error


def _merge(found: Sequence[Entries], folder: Path, declaration: Declaration) -> None:
    """Merge what was gathered, in the order given, into a transform graph, on the embedded runner."""
    names = sorted({name for each in found for name in each})
    with (
        tempfile.TemporaryDirectory() as scratch,
        quiet(),
        pipeline_on(EMBEDDED) as pipeline,
        tft_beam.Context(temp_dir=scratch),
    ):
        entries = {}
        for n, name in enumerate(names):
            values = [value for each in found for value in each.get(name, ())]
            entries[name] = pipeline | f"Kept {n}" >> beam.Create(values, reshuffle=False)
        whole = DatasetKey("days")
        analyse = tft_beam.AnalyzeDatasetWithCache(functools.partial(preprocessing_fn, declaration), pipeline)
        given = ({whole: None}, {whole: DatasetCache(entries, None)}, adapter(declaration))
        graph, _ = given | "Merge" >> analyse
        _ = graph | "Write" >> tft_beam.WriteTransformFn(str(folder))
