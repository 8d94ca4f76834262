"""`plumbline train` on the command line: what it refuses before it loads TensorFlow or opens the archive."""

from pathlib import Path

import pyarrow as pa
import pytest

from archive.layout import LABEL_SCHEMA, TRANSACTION_SCHEMA, write_archive
from plumbline.cli import main as cli
from plumbline.transaction import DAY_US

DAYS = ["--train", "2019-05-01..2019-05-03", "--test", "2019-05-10..2019-05-12"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--precision", "float8", *DAYS], ("--precision", "'float8'", "float32, bfloat16, float16")),
        (["--profile", "100", *DAYS], ("--profile", "'100'", "such as 100..120")),
        (["--profile", "20..10", *DAYS], ("--profile", "'20..10'", "FIRST..LAST")),
        (["--profile", "a..b", *DAYS], ("--profile", "'a..b'", "FIRST..LAST")),
        (DAYS[:2], ("--train", "both --train and --test")),
        (["--auto", *DAYS], ("--auto",)),
    ],
)
def test_an_option_that_says_nothing_is_refused_with_what_was_allowed(tmp_path, capsys, words, told):
    assert cli.run(["train", "--archive", str(tmp_path / "none"), *words]) == cli.USAGE
    error = capsys.readouterr().err
    assert all(each in error for each in told), error


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    transactions = pa.table(
        {
            "transaction_id": [f"t{i}" for i in range(100)], "account_id": ["a"] * 100, "merchant_id": ["m"] * 100,
            "occurred_at": [18_000 * DAY_US + i * DAY_US // 4 for i in range(100)], "device_id": [""] * 100,
            "amount_minor": [100] * 100, "currency": ["EUR", "KWD"] * 50, "channel": ["pos"] * 100,
            "mcc": ["5411"] * 100, "country": ["DE"] * 100, "latitude_e6": [None] * 100, "longitude_e6": [None] * 100,
        },
        schema=TRANSACTION_SCHEMA,
    )  # fmt: skip
    return write_archive(tmp_path / "archive", [transactions], LABEL_SCHEMA.empty_table(), "test").path


@pytest.mark.parametrize(
    ("damage", "verb"),
    [
        ("missing", ["train", "--auto"]), ("changed", ["train", "--auto"]),
        ("missing", ["backfill"]), ("changed", ["backfill"]),
        ("missing", ["play"]),  # which reads a day when its time comes
    ],
)  # fmt: skip
def test_no_command_reads_an_archive_that_is_not_whole(
    archive: Path, capsys: pytest.CaptureFixture[str], damage: str, verb: list[str]
) -> None:
    day = sorted((archive / "transactions").iterdir())[3]
    if damage == "missing":
        day.unlink()
    else:
        day.write_bytes(day.read_bytes()[:-1] + b"x")
    assert cli.run([*verb, "--archive", str(archive)]) == 1
    assert f"transactions/{day.name}" in capsys.readouterr().err


@pytest.mark.slow
def test_training_on_several_currencies_says_so(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "--archive", str(archive), "--auto", "--delay-days", "300"]) == 1
    assert "warning: 2 currencies in one archive (EUR 50, KWD 50): history and model add" in capsys.readouterr().err
