"""`plumbline train` on the command line: what it refuses before it loads TensorFlow or opens the archive."""

import pytest

from plumbline.cli import main as cli

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
