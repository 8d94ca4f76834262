"""A mapping file turns any CSV or Parquet into an archive, exactly, or says which row stands in the way."""

import datetime
import json
import re
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from archive import sources
from archive.importing import RowsRefused, import_files
from archive.layout import Archive, verified_archive
from archive.mapping import Mapping, load_mapping
from plumbline.cli.main import run
from plumbline.errors import InvalidArchive

NOW_US = 1_800_000_000_000_000
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "bank-export.toml"

BASIC = """
[transaction]
transaction_id = { column = "id" }
occurred_at = { column = "when" }
account_id = { column = "account" }
merchant_id = { column = "shop" }
amount_minor = { column = "amount" }
"""


def utc_us(*parts: int) -> int:
    moment = datetime.datetime(*parts, tzinfo=datetime.UTC)
    return (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1)


def mapping(tmp_path: Path, text: str = BASIC) -> Mapping:
    file = tmp_path / "mapping.toml"
    file.write_text(text)
    return load_mapping(file)


def imported(tmp_path: Path, csv: str | bytes, text: str = BASIC) -> Archive:
    file = tmp_path / "payments.csv"
    file.write_bytes(csv.encode() if isinstance(csv, str) else csv)
    return import_files([file], mapping(tmp_path, text), tmp_path / "a", now_us=NOW_US)


def rows_of(archive: Archive) -> list[dict[str, object]]:
    return pa.Table.from_batches(archive.transactions()).to_pylist()


def refused(tmp_path: Path, csv: str | bytes, text: str = BASIC) -> RowsRefused:
    with pytest.raises(RowsRefused) as caught:
        imported(tmp_path, csv, text)
    assert not (tmp_path / "a").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    return caught.value


HEAD = "id,when,account,shop,amount\n"


def test_money_is_never_rounded(tmp_path: Path) -> None:
    amounts = ["0.1", "0.29", "1.15", "4.35", "8589934592.99", "12", "1.10000", "+7.5"]
    lines = [f"t{i},2020-01-01 00:00:0{i},a,m,{amount}" for i, amount in enumerate(amounts)]
    archive = imported(tmp_path, HEAD + "\n".join(lines))
    assert [row["amount_minor"] for row in rows_of(archive)] == [int(Decimal(amount) * 100) for amount in amounts]


@pytest.mark.parametrize(
    ("amount", "word"),
    [
        ("1.234", "2 decimal places"), ("1,50", "2 decimal places"), ("", "2 decimal places"), ("NaN", "decimal"),
        ("1e3", "decimal"), ("-1", "1000000000000"), ("99999999999.00", "1000000000000"),
        ("12345678901234567890", "decimal"),
        ("1.", "decimal"), (".5", "decimal"), ("١", "decimal"),
    ],
)  # fmt: skip
def test_a_wrong_amount_names_row_column_value_and_what_was_expected(tmp_path: Path, amount: str, word: str) -> None:
    quoted = f'"{amount}"'
    error = refused(
        tmp_path, HEAD + f"t1,2020-01-01,a,m,1\nt2,2020-01-01 00:00,a,m,{quoted}\n".replace("01,a", "01 00:00,a")
    )
    (problem,) = error.problems
    assert (problem.file, problem.row, problem.column) == ("payments.csv", 2, "amount")
    assert word in problem.allowed
    assert "amount_minor" in problem.allowed
    assert problem.value == amount


TIMES = [
    ("2020-01-31 23:59:59", (2020, 1, 31, 23, 59, 59)),
    ("2020-01-31T23:59:59.5", (2020, 1, 31, 23, 59, 59, 500_000)),
    ("2020-01-31T23:59:59.000001Z", (2020, 1, 31, 23, 59, 59, 1)),
    ("2020-01-31T23:59:59+01:00", (2020, 1, 31, 22, 59, 59)),
    ("2020-01-31T23:59-0330", (2020, 2, 1, 3, 29)),
    ("2020-02-29 00:00", (2020, 2, 29)),
]


@pytest.mark.parametrize(("text", "expected"), TIMES)
def test_iso_times_are_exact(tmp_path: Path, text: str, expected: tuple[int, ...]) -> None:
    assert rows_of(imported(tmp_path, HEAD + f"t,{text},a,m,1\n"))[0]["occurred_at"] == utc_us(*expected)


@pytest.mark.parametrize(
    "text",
    [
        "2019-02-29 00:00",
        "2020-13-01 00:00",
        "2020-01-01 24:00",
        "2020-01-01",
        "1577836800",
        "",
        "2020-01-01 00:00:00.1234567",
    ],
)
def test_a_wrong_time_is_refused(tmp_path: Path, text: str) -> None:
    (problem,) = refused(tmp_path, HEAD + f"t,{text},a,m,1\n").problems
    assert (problem.row, problem.column, problem.value) == (1, "when", text)
    assert "occurred_at" in problem.allowed


def test_a_time_in_the_future_is_refused(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path, HEAD + "t,2200-01-01 00:00:00,a,m,1\n").problems
    assert "ahead of now" in problem.allowed


@pytest.mark.parametrize(
    ("settings", "text", "expected"),
    [
        ('format = "epoch_s"', "1577836800", (2020, 1, 1)),
        ('format = "epoch_s"', "1577836800.000001", (2020, 1, 1, 0, 0, 0, 1)),
        ('format = "epoch_ms"', "1577836800001", (2020, 1, 1, 0, 0, 0, 1000)),
        ('format = "epoch_us"', "1577836800000001", (2020, 1, 1, 0, 0, 0, 1)),
        ('format = "%d/%m/%y %H:%M"', "31/01/20 07:05", (2020, 1, 31, 7, 5)),
        ('format = "%d/%m/%y %H:%M"', "1/2/20 7:05", (2020, 2, 1, 7, 5)),
        ('zone = "Europe/Zurich"', "2020-07-01 12:00:00", (2020, 7, 1, 10)),
        ('zone = "Europe/Zurich"', "2020-07-01 12:00:00Z", (2020, 7, 1, 12)),
    ],
)  # fmt: skip
def test_time_formats_and_zones(tmp_path: Path, settings: str, text: str, expected: tuple[int, ...]) -> None:
    rules = BASIC.replace('column = "when"', f'column = "when", {settings}')
    assert rows_of(imported(tmp_path, HEAD + f"t,{text},a,m,1\n", rules))[0]["occurred_at"] == utc_us(*expected)


def test_rows_in_any_order_are_sorted_and_ties_keep_the_files_order(tmp_path: Path) -> None:
    lines = [
        "c,2020-01-03 00:00,a,m,1",
        "a,2020-01-01 00:00,a,m,1",
        "d,2020-01-03 00:00,a,m,1",
        "b,2020-01-02 00:00,a,m,1",
    ]
    archive = imported(tmp_path, HEAD + "\n".join(lines))
    archive.verify()
    assert [row["transaction_id"] for row in rows_of(archive)] == ["a", "b", "c", "d"]


def test_in_order_refuses_rows_that_are_not(tmp_path: Path) -> None:
    with pytest.raises(InvalidArchive, match="transaction b: occurred_at"):
        imported(tmp_path, HEAD + "a,2020-01-02 00:00,a,m,1\nb,2020-01-01 00:00,a,m,1\n", "in_order = true\n" + BASIC)
    assert not (tmp_path / "a").exists()


def test_broken_lines_bytes_and_ids_keep_their_row_numbers(tmp_path: Path) -> None:
    good = "2020-01-01 00:00,a,m,1\n"
    csv = (
        (HEAD + f"t1,{good}only,two\n\nt3,{good}t 4,{good}").encode() + b"\xff," + good.encode() + f"t6,{good}".encode()
    )
    error = refused(tmp_path, csv)
    assert [(problem.row, problem.column) for problem in error.problems] == [(2, "(whole line)"), (4, "id"), (5, "id")]
    assert "5 columns, got 2" in error.problems[0].allowed
    assert error.problems[2].value == b"\xff"
    assert "3 rows" in str(error)
    assert "payments.csv row 4, column id: 't 4'" in str(error)


def test_an_id_that_comes_twice_is_refused_with_its_second_row(tmp_path: Path) -> None:
    good = "2020-01-01 00:00,a,m,1\n"
    (problem,) = refused(tmp_path, HEAD + f"t1,{good}t2,{good}t1,{good}").problems
    assert (problem.row, problem.value) == (3, "t1")


def test_only_the_first_twenty_problems_are_listed(tmp_path: Path) -> None:
    error = refused(tmp_path, HEAD + "t,2020-01-01 00:00,a,m,x\n" * 1000)
    assert [problem.row for problem in error.problems] == list(range(1, 21))


def test_a_row_that_is_wrong_in_the_last_of_many_batches_stops_everything(tmp_path: Path) -> None:
    lines = [f"t{i},2020-01-01 00:00,a,m,1" for i in range(700_000)]
    lines[-1] += "0.001"
    error = refused(tmp_path, HEAD + "\n".join(lines), "in_order = true\n" + BASIC)
    assert [problem.row for problem in error.problems] == [700_000]


def test_the_documented_example_reads_its_own_two_lines(tmp_path: Path) -> None:
    lines = [
        line.removeprefix("#   ") for line in EXAMPLE.read_text().splitlines() if ";" in line and line[:4] == "#   "
    ]
    file = tmp_path / "export.csv"
    file.write_text("\n".join(lines) + "\n18;01.02.2020 00:00:00;4711;Kiosk;-2;;Kasse;;nein;\n")
    archive = import_files([file], load_mapping(EXAMPLE), tmp_path / "a", now_us=NOW_US)
    first, second = rows_of(archive)
    assert first | {"sequence": 0} == {
        "sequence": 0,
        "transaction_id": "bank-000017",
        "occurred_at": utc_us(2020, 1, 31, 22, 59, 59),
        "account_id": "card-4711",
        "merchant_id": "B%C3%A4ckerei_S%C3%BC%C3%9F",
        "device_id": "",
        "amount_minor": 123450,
        "currency": "EUR",
        "channel": "ecom",
        "mcc": "0000",
        "country": "DE",
        "latitude_e6": None,
        "longitude_e6": None,
    }
    assert (second["currency"], second["country"], second["channel"]) == ("EUR", "ZZ", "pos")
    assert archive.labels()["known_at"].to_pylist() == [utc_us(2020, 2, 14, 8)]


LABELLED = BASIC + '[label]\ncolumn = "bad"\nknown_at = { column = "told" }\n'


def test_labels_need_known_values_and_come_after_their_transaction(tmp_path: Path) -> None:
    head = HEAD.strip() + ",bad,told\n"
    row = "2020-01-05 00:00,a,m,1"
    error = refused(
        tmp_path, head + f"t1,{row},maybe,\nt2,{row},1,2020-01-04 00:00\nt3,{row},1,soon\nt4,{row},0,soon\n", LABELLED
    )
    assert [(problem.row, problem.column) for problem in error.problems] == [(1, "bad"), (2, "told"), (3, "told")]
    archive = imported(tmp_path, head + f"t1,{row},1,\nt2,{row},1,2020-01-06 00:00\nt3,{row},0,\n", LABELLED)
    assert archive.labels()["transaction_id"].to_pylist() == ["t2", "t1"]
    assert archive.labels()["known_at"].to_pylist() == [utc_us(2020, 1, 6), utc_us(2020, 1, 12)]


def test_parquet_types_are_read_exactly(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([7, 8]),
            "when": pa.array([1_577_836_800_000_000_123, 1_577_836_801_000_000_999], pa.timestamp("ns", "UTC")),
            "account": pa.array(["a", "b"]).dictionary_encode(),
            "shop": pa.array(["m", "m"], pa.large_string()),
            "amount": pa.array([Decimal("0.29"), Decimal("4.35")], pa.decimal128(12, 4)),
            "lat": pa.array([47.1234567, None]),
            "long": pa.array([-8.0, None]),
        }
    )
    pq.write_table(table, tmp_path / "payments.parquet")
    places = 'latitude_e6 = { column = "lat" }\nlongitude_e6 = { column = "long" }\n'
    archive = import_files(
        [tmp_path / "payments.parquet"], mapping(tmp_path, BASIC + places), tmp_path / "a", now_us=NOW_US
    )
    first, second = rows_of(archive)
    assert (first["transaction_id"], first["occurred_at"], first["amount_minor"]) == ("7", 1_577_836_800_000_000, 29)
    assert (first["latitude_e6"], first["longitude_e6"], second["latitude_e6"]) == (47123457, -8000000, None)
    assert second["amount_minor"] == 435


def test_an_amount_given_as_a_float_with_a_third_decimal_is_refused(tmp_path: Path) -> None:
    columns = {"id": ["1"], "when": ["2020-01-01 00:00"], "account": ["a"], "shop": ["m"], "amount": [1.005]}
    pq.write_table(pa.table(columns), tmp_path / "payments.parquet")
    with pytest.raises(RowsRefused, match="2 decimal places"):
        import_files([tmp_path / "payments.parquet"], mapping(tmp_path), tmp_path / "a", now_us=NOW_US)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "transaction"),
        (BASIC.replace('"amount"', '"amount", digts = 2'), "digts"),
        (BASIC.replace('"when"', '"when", zone = "Mars/Base"'), "zone"),
        (BASIC.replace('"when"', '"when", format = "odd"'), "format"),
        (BASIC.replace('"when"', '"when", format = "%H %z"'), "offset"),
        (BASIC.replace('column = "id"', 'column = "id", constant = "x"'), "exactly one"),
        (BASIC + 'latitude_e6 = { column = "lat" }', "both latitude_e6"),
        ("[transaction", "TOML"),
    ],
)
def test_a_wrong_mapping_says_which_word(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(InvalidArchive, match=word):
        mapping(tmp_path, text)


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidArchive, match=r"column is 'id'.*nr, when"):
        imported(tmp_path, "nr,when,account,shop,amount\n1,2,3,4,5\n")
    with pytest.raises(InvalidArchive, match="only one column"):
        imported(tmp_path, "id,id,when,account,shop,amount\n1,1,2,3,4,5\n")
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(InvalidArchive, match="readable Parquet"):
        import_files([tmp_path / "x.parquet"], mapping(tmp_path), tmp_path / "a", now_us=NOW_US)


def test_preview_shows_transactions_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "payments.csv").write_text(HEAD + "t1,2020-01-01 00:00,a,m,1.5\nt2,2020-01-01 00:00,a,m,x\n")
    mapping(tmp_path)
    command = ["import", "csv", str(tmp_path / "payments.csv"), "--mapping", str(tmp_path / "mapping.toml")]
    assert run([*command, "--preview", "--preview-rows", "1"]) == 0
    (shown,) = capsys.readouterr().out.splitlines()
    assert '"amount_minor":150' in shown
    assert run([*command, "--preview"]) == 1
    assert "row 2, column amount: 'x'" in capsys.readouterr().err
    assert run(command) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mapping.toml", "payments.csv"]


def test_parquet_columns_of_lists_are_refused_and_bytes_are_read_as_text(tmp_path: Path) -> None:
    columns = {"id": [b"1", b"\xff"], "when": ["2020-01-01 00:00"] * 2, "account": ["a"] * 2, "shop": ["m"] * 2}
    file = tmp_path / "payments.parquet"
    pq.write_table(pa.table(columns | {"amount": [1, 2]}), file)
    with pytest.raises(RowsRefused, match=r"row 2, column id.*UTF-8"):
        import_files([file], mapping(tmp_path), tmp_path / "a", now_us=NOW_US)
    pq.write_table(pa.table(columns | {"amount": [[1], [2]]}), file)
    with pytest.raises(InvalidArchive, match="numbers, text, times"):
        import_files([file], mapping(tmp_path), tmp_path / "a", now_us=NOW_US)


@pytest.mark.parametrize("block_bytes", [128, 256, 1 << 20])
def test_row_numbers_hold_across_blocks_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(sources, "CSV_BLOCK_BYTES", block_bytes)
    lines = [f"t{i},2020-01-01 00:00,a,m,1" for i in range(1, 41)]
    for row in (3, 17, 40):
        lines[row - 1] = f"broken {row}"
    lines[30] = "t31,2020-01-01 00:00,a,m,x"
    error = refused(tmp_path, HEAD + "\n".join(lines))
    assert sorted(problem.row for problem in error.problems) == [3, 17, 31, 40]


def test_a_file_of_nothing_but_broken_lines_is_refused(tmp_path: Path) -> None:
    assert [problem.row for problem in refused(tmp_path, HEAD + "one\ntwo\n").problems] == [1, 2]


def test_a_file_with_only_a_header_or_with_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArchive, match=r"payments.csv: size is '0 bytes': expected a header line and rows"):
        imported(tmp_path, "")
    with pytest.raises(InvalidArchive, match=r"payments.csv: transactions is 0: expected one or more rows of data"):
        imported(tmp_path, HEAD)
    (tmp_path / "empty.parquet").touch()
    with pytest.raises(InvalidArchive, match=r"empty.parquet: size is '0 bytes': expected Parquet with rows"):
        import_files([tmp_path / "empty.parquet"], mapping(tmp_path), tmp_path / "a", now_us=NOW_US)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("since_us", [None, utc_us(2020, 1, 1)])
def test_an_import_of_nothing_never_replaces_a_good_archive(tmp_path: Path, since_us: int | None) -> None:
    good = imported(tmp_path, HEAD + "t1,2019-01-01 00:00,a,m,1\n")
    file = tmp_path / "other.csv"
    file.write_text(HEAD + ("t2,2019-01-02 00:00,a,m,1\n" if since_us else ""))
    with pytest.raises(InvalidArchive, match="transactions is 0: expected one or more"):
        import_files([file], mapping(tmp_path), good.path, now_us=NOW_US, since_us=since_us, replace=True)
    assert verified_archive(good.path) == good


TRIED = HEAD.strip() + ",currency\n"
WITH_CURRENCY = BASIC + 'currency = { column = "currency" }\n'


def with_amount(words: str) -> str:
    return WITH_CURRENCY.replace('amount_minor = { column = "amount"', f'amount_minor = {{ column = "amount", {words}')


EU = with_amount('decimal = ",", thousands = "."')


def minor_units(tmp_path: Path, amount: str, currency: str, text: str = WITH_CURRENCY) -> object:
    csv = TRIED + f't1,2020-01-01 00:00,a,m,"{amount}",{currency}\n'
    return rows_of(imported(tmp_path, csv, text))[0]["amount_minor"]


def why_refused(tmp_path: Path, amount: str, currency: str, text: str = WITH_CURRENCY) -> str:
    csv = TRIED + f't1,2020-01-01 00:00,a,m,"{amount}",{currency}\n'
    (problem,) = refused(tmp_path, csv, text).problems
    assert (problem.row, problem.column, problem.value) == (1, "amount", amount)
    return problem.allowed


@pytest.mark.parametrize(
    ("amount", "currency", "rules", "expected"),
    [
        ("12.34", "KWD", WITH_CURRENCY, 12_340), ("12.345", "KWD", WITH_CURRENCY, 12_345),
        ("1200", "JPY", WITH_CURRENCY, 1_200), ("1200.00", "JPY", WITH_CURRENCY, 1_200),
        ("12.34", "EUR", WITH_CURRENCY, 1_234), ("1.1234", "CLF", WITH_CURRENCY, 11_234),
        ("1.234", "EUR", EU, 123_400), ("1.234.567,8", "EUR", EU, 123_456_780), ("1.234", "JPY", EU, 1_234),
        ("1,234", "KWD", EU, 1_234), ("0,500", "EUR", EU, 50), ("1234,5", "EUR", EU, 123_450),
        ("1.234", "KWD", with_amount("decimals = 3"), 1_234), ("1.500", "EUR", with_amount("decimals = 3"), 150),
        ("1.234,000", "KWD", EU, 1_234_000), ("1234", "KWD", with_amount("digits = 0"), 1_234),
        ("12.34", "XXX", WITH_CURRENCY, 1_234), ("1.5", "XXX", with_amount("digits = 3"), 1_500),
        ("1'234.50", "CHF", with_amount('thousands = "\'"'), 123_450),
    ],
)  # fmt: skip
def test_an_amount_has_the_digits_of_its_own_currency(
    tmp_path: Path, amount: str, currency: str, rules: str, expected: int
) -> None:
    assert minor_units(tmp_path, amount, currency, rules) == expected


@pytest.mark.parametrize(
    ("amount", "currency", "rules", "word"),
    [
        ("12.34", "EUR", EU, "it is one with decimal mark `.`: correct the mapping's marks"),
        ("1.5", "EUR", EU, "between groups of three digits; it is one with decimal mark `.`"),
        ("1.2345", "EUR", EU, "groups of three"), ("12.34.567", "EUR", EU, "groups of three"),
        ("1.234.56", "EUR", EU, "groups of three"), ("0.123.456", "EUR", EU, "groups of three"),
        ("1,234.56", "EUR", EU, "it is one with decimal mark `.`"),
        ("12,34", "EUR", WITH_CURRENCY, "it is one with decimal mark `,`"),
        ("1.500", "EUR", WITH_CURRENCY, "may be 1500 (the mark between thousands) or 1.500 (the decimal mark)"),
        ("1.000", "JPY", WITH_CURRENCY, "may be 1000 (the mark between thousands) or 1.000 (the decimal mark)"),
        ("1.234", "KWD", EU, "may be 1234 (the mark between thousands) or 1.234 (the decimal mark)"),
        ("12.34", "JPY", WITH_CURRENCY, "of JPY: a whole number, no decimal places"),
        ("12.3456", "KWD", WITH_CURRENCY, "of KWD: at most 3 decimal places"),
        ("1200", "JPY", with_amount("digits = 2"), "digits = 0, as JPY has, not 2: leave `digits` out"),
        ("1.50", "EUR", with_amount("decimals = 3"), "exactly 3 digits after `.`"),
        ("1.5", "EUR", with_amount("digits = 0"), "with digits = 0, of minor units: a whole number"),
    ],
)  # fmt: skip
def test_an_amount_that_is_none_or_has_two_readings_is_refused(
    tmp_path: Path, amount: str, currency: str, rules: str, word: str
) -> None:
    assert word in why_refused(tmp_path, amount, currency, rules)


def test_amounts_of_parquet_are_numbers_whatever_marks_the_mapping_has(tmp_path: Path) -> None:
    for number in (pa.decimal128(12, 3), pa.float64()):
        table = pa.table({
            "id": ["1", "2"], "when": ["2020-01-01 00:00"] * 2, "account": ["a"] * 2, "shop": ["m"] * 2,
            "amount": pa.array([Decimal("1.500"), Decimal("12.345")]).cast(number), "currency": ["EUR", "KWD"],
        })  # fmt: skip
        pq.write_table(table, tmp_path / "payments.parquet")
        target = tmp_path / str(number)
        archive = import_files([tmp_path / "payments.parquet"], mapping(tmp_path, EU), target, now_us=NOW_US)
        assert [row["amount_minor"] for row in rows_of(archive)] == [150, 12_345]


def test_more_currencies_than_one_are_said_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mapping(tmp_path, WITH_CURRENCY)
    for currencies in (["KWD", "JPY", "EUR", "EUR"], ["EUR"]):
        rows = [f"t{i},2020-01-01 00:00,a,m,12,{currency}" for i, currency in enumerate(currencies)]
        (tmp_path / "payments.csv").write_text(TRIED + "\n".join(rows))
        target = str(tmp_path / "-".join(currencies))
        command = ["import", "csv", str(tmp_path / "payments.csv"), "--mapping", str(tmp_path / "mapping.toml")]
        assert run([*command, "--to", target, "--json"]) == 0
        shown = capsys.readouterr()
        counted = json.loads(shown.out.splitlines()[-1])["currencies"]
        assert counted == {currency: currencies.count(currency) for currency in ["EUR", *currencies]}
        warning = "3 currencies in one archive (EUR 2, KWD 1, JPY 1): history and model add"
        assert (warning in shown.err) == (len(counted) > 1)


@pytest.mark.parametrize(
    ("format_", "text", "word"),
    [
        ("epoch_ms", "1577836800", "this looks like seconds (2020-01-01 00:00:00 UTC); say format = \"epoch_s\""),
        ("epoch_us", "1577836800", "this looks like seconds"),
        ("epoch_s", "1577836800000", "this looks like milliseconds (2020-01-01 00:00:00 UTC); say format = "),
        ("epoch_s", "1577836800000000", "this looks like microseconds"),
        ("epoch_ms", "1577836800000000", "this looks like microseconds"),
        ("epoch_us", "1577836800000", "this looks like milliseconds"),
        ("epoch_us", "1577836800000000000", "this looks like nanoseconds"),
        ("epoch_s", "0", "a time from 2000-01-01 on; say `earliest` in the mapping"),
        ("epoch_s", "900000000", "a time from 2000-01-01 on"), ("epoch_s", "3000000000", "not in the future"),
        ("iso", "1970-01-21 12:00", "a time from 2000-01-01 on"), ("epoch_s", "soon", "a number of seconds since 1970"),
    ],
)  # fmt: skip
def test_a_number_of_another_unit_is_refused_with_the_unit_that_it_looks_like(
    tmp_path: Path, format_: str, text: str, word: str
) -> None:
    rules = BASIC.replace('column = "when"', f'column = "when", format = "{format_}"')
    (problem,) = refused(tmp_path, HEAD + f"t,{text},a,m,1\n", rules).problems
    assert (problem.column, problem.value) == ("when", text)
    assert word in problem.allowed


def test_older_times_are_taken_where_the_mapping_says_from_when_on(tmp_path: Path) -> None:
    rules = BASIC.replace('column = "when"', 'column = "when", format = "epoch_s", earliest = 1970-01-01')
    assert rows_of(imported(tmp_path, HEAD + "t,100,a,m,1\n", rules))[0]["occurred_at"] == 100_000_000


@pytest.mark.parametrize("field", ["id", "account", "shop"])
@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("4.71E+15", "rounded this one to a power of ten"), ("4,71e+15", "rounded this one"), ("1e+16", "rounded"),
        ("1234.0", "leading zeros and digits after the 15th are lost"), ("#REF!", "an error or a column too narrow"),
        ("#N/A", "an error"), ("#NAME?", "an error"), ("########", "too narrow"),
    ],
)  # fmt: skip
def test_an_id_that_a_spreadsheet_damaged_is_refused_with_that_reason(
    tmp_path: Path, field: str, text: str, word: str
) -> None:
    cells = {"id": "t1", "when": "2020-01-01 00:00", "account": "a", "shop": "m", "amount": "1"} | {field: text}
    csv = HEAD + ",".join(f'"{cell}"' for cell in cells.values())
    for rules in (BASIC, BASIC.replace('column = "shop"', 'column = "shop", escape = true')):
        (problem,) = refused(tmp_path, csv, rules).problems
        assert (problem.column, problem.value) == (field, text)
        assert word in problem.allowed
    as_is = re.sub(r'column = "(id|account|shop)"', r'column = "\1", as_is = true', BASIC)
    assert imported(tmp_path, csv, as_is).manifest.rows == 1


@pytest.mark.parametrize("text", ["4.71E15", "1.2.0", "471E-15", "E+15", "v1.0", "12e4", "#1", "5e-12", "A1E+15"])
def test_an_id_that_only_looks_a_little_like_a_number_is_taken(tmp_path: Path, text: str) -> None:
    assert imported(tmp_path, HEAD + f"{text},2020-01-01 00:00,a,m,1\n").manifest.rows == 1


def test_ids_that_are_floats_in_parquet_are_refused(tmp_path: Path) -> None:
    columns = {"id": [1.0, 2.0], "when": ["2020-01-01 00:00"] * 2, "account": ["a"] * 2, "shop": ["m"] * 2}
    pq.write_table(pa.table(columns | {"amount": [1, 2]}), tmp_path / "payments.parquet")
    with pytest.raises(RowsRefused, match=r"row 2, column id: 2.0: expected an id as text or a whole number"):
        import_files([tmp_path / "payments.parquet"], mapping(tmp_path), tmp_path / "a", now_us=NOW_US)


@pytest.mark.parametrize(
    ("words", "frauds"),
    [
        ('fraud = ["True"]\ngenuine = ["False"]', 1), ('fraud = ["true"]\ngenuine = ["false"]', 1), ("", 1),
        ('fraud = ["yes"]\ngenuine = ["no"]', None),
    ],
)  # fmt: skip
def test_labels_of_booleans_are_true_and_false_however_the_mapping_writes_them(
    tmp_path: Path, words: str, frauds: int | None
) -> None:
    columns = {"id": ["1", "2"], "when": ["2020-01-01 00:00"] * 2, "account": ["a"] * 2, "shop": ["m"] * 2}
    pq.write_table(pa.table(columns | {"amount": [1, 2], "bad": [True, False]}), tmp_path / "payments.parquet")
    rules = mapping(tmp_path, BASIC + f'[label]\ncolumn = "bad"\n{words}\n')
    if frauds is None:
        expected = "'true': expected one of yes, no: a column of booleans holds true and false; list both"
        with pytest.raises(RowsRefused, match=expected):
            import_files([tmp_path / "payments.parquet"], rules, tmp_path / "a", now_us=NOW_US)
    else:
        archive = import_files([tmp_path / "payments.parquet"], rules, tmp_path / "a", now_us=NOW_US)
        assert archive.manifest.labels == frauds


@pytest.mark.parametrize("length", [65, 5_000])
def test_a_text_that_is_too_long_is_named_by_its_column(tmp_path: Path, length: int) -> None:
    (problem,) = refused(tmp_path, HEAD + f"t1,2020-01-01 00:00,{'a' * length},m,1\n").problems
    assert problem.column == "account"
    assert "1 to 64 printable ASCII characters" in problem.allowed


def test_a_quotation_mark_that_is_not_closed_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CSV_BLOCK_BYTES", 1 << 20)
    lines = [f"t{i},2020-01-01 00:00,a,m,1" for i in range(100_000)]
    lines[10] = 't10,2020-01-01 00:00,"a,m,1'
    with pytest.raises(InvalidArchive, match="at most 1 MiB: most often a quotation mark is not closed"):
        imported(tmp_path, HEAD + "\n".join(lines))
