"""Which Beam runner executes a pipeline, as a value that is handed down: nothing below the command chooses one.

The embedded runner works in this process and is what a laptop, the tests and the audit use. Any other one (Apache
Flink, Dataflow) is named with Beam's own flags, and gets the same pipelines: see docs/beam.md.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from plumbline.errors import RunnerUnavailable


@dataclass(frozen=True, slots=True)
class Runner:
    """Beam's name of a runner, its flags (`--name=value`), and `gone`: words that say so where its process has ended.

    The name is pinned: Beam's default would be chosen by the shape of the pipeline, and would fall back in silence.
    """

    name: str = "FnApiRunner"
    options: tuple[str, ...] = ()
    gone: Callable[[], str | None] = field(default=lambda: None, compare=False)


EMBEDDED: Final = Runner()


@contextlib.contextmanager
def pipeline_on(runner: Runner) -> Iterator[beam.Pipeline]:
    """A pipeline that this runner executes when the block ends; a failure is raised there.

    It is RunnerUnavailable, worth trying again, where the runner's process has gone, whatever Beam calls that.
    """
    try:
        with beam.Pipeline(runner=runner.name, options=PipelineOptions(list(runner.options))) as pipeline:
            yield pipeline
    except Exception as error:
        if words := runner.gone():
            raise RunnerUnavailable(words) from error
        raise
