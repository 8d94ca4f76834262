"""The step `analysis`: TFT's statistics of the training days, of which only new days are looked at.

    FOLDER/transform            the transform graph, with means, variances and vocabularies
    CACHE/....analyzed          what was gathered of each day file; see `features.analyzed_days`

All rows of the training days count, whether they have a truth or not: what is usual is so for those as well.
"""

from pathlib import Path
from typing import Any, Final

import tensorflow_transform as tft
from tensorflow_transform.analyzers import get_empy_vocabulary_dummy_value

from features.analyzed_days import analyze_days, remove_others
from features.grammar import Declaration
from features.runner import EMBEDDED, Runner
from plumbline.errors import Refused
from retrain.rows import read_days
from retrain.sources import Tell, silent

TRANSFORM: Final = "transform"


def analysis(
    folder: Path, *, rows: Path, cache: Path, declaration: Declaration, runner: Runner = EMBEDDED, tell: Tell = silent
) -> dict[str, Any]:
    """Write the transform graph of a night's training days into an empty folder.

    rows: folder of the step `rows`; cache: folder that is kept from night to night; runner: of Beam, for new days.
    Raises Refused where a category has no value at all, Unready when the disk is full.
    """
    listed = read_days(rows)
    files = {
        _key(each.name, each.sha256): Path(listed.folder) / each.name for each in listed.files if each.use == "train"
    }
    found = analyze_days(files, folder / TRANSFORM, cache, declaration=declaration, runner=runner, tell=tell)
    sizes = _vocabularies(folder / TRANSFORM, declaration)
    return {
        "days": len(files),
        "days_analyzed": found.analyzed,
        "days_cached": found.cached,
        "cache_damaged": found.damaged,
        "cache_removed": remove_others(cache, files, declaration),
        **{f"vocabulary_{name}": size for name, size in sizes.items()},
    }


def _key(name: str, sha256: str) -> str:
    """What stands for a day file's bytes: its day, and their digest."""
    return f"{name.removeprefix('day=').split('.')[0]}-{sha256[:16]}"


def _vocabularies(transform: Path, declaration: Declaration) -> dict[str, int]:
    """How many values each category has; raises Refused where one has none: a model of it would learn from nothing."""
    output = tft.TFTransformOutput(str(transform))
    words = {each.name: output.vocabulary_by_name(each.name) for each in declaration.categories}
    _, nothing = get_empy_vocabulary_dummy_value("string")  # what TFT writes where there was no value
    for each in declaration.categories:
        if words[each.name] in ([], [nothing]):
            raise Refused(
                f"category {each.name}: column {each.inputs[0]} has no value in any row of the training days, so its "
                "vocabulary is empty: see what the import or the platform made of it, or leave the category out"
            )
    return {name: len(found) for name, found in words.items()}
