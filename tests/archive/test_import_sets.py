"""The public data sets become archives: amounts, times, labels and ids exactly as documented."""

import datetime
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from archive.layout import open_archive
from plumbline.cli.main import run
from plumbline.transaction import DAY_US

NOON = datetime.datetime(2018, 4, 1, 12, 0, 31)  # noqa: DTZ001 # the files' own times carry no zone
NOON_US = 1_522_584_031_000_000


@pytest.fixture
def handbook(tmp_path: Path) -> Path:
    folder = tmp_path / "handbook"
    folder.mkdir()
    columns = {
        "TRANSACTION_ID": pa.array([0, 1, 2, 3], pa.int32()),
        "TX_DATETIME": pa.array([NOON + datetime.timedelta(hours=20 * i) for i in range(4)], pa.timestamp("ms")),
        "CUSTOMER_ID": pa.array([596, 4961, 2, 596], pa.int16()),
        "TERMINAL_ID": pa.array([3156, 3412, 1365, 1365], pa.int16()),
        "TX_AMOUNT": pa.array([57.16, 0.0, 2628.00, 81.51 + 2e-11], pa.float64()),
        "TX_TIME_SECONDS": pa.array([31, 1, 2, 3], pa.int32()),
        "TX_TIME_DAYS": pa.array([0, 1, 2, 3], pa.int16()),
        "TX_FRAUD": pa.array([0, 1, 0, 1], pa.int8()),
        "TX_FRAUD_SCENARIO": pa.array([0, 2, 0, 3], pa.int8()),
    }
    table = pa.table(columns)
    pq.write_table(table.slice(0, 2), folder / "transactions-2018-04.parquet")
    pq.write_table(table.slice(2), folder / "transactions-2018-05.parquet")
    return folder


def test_handbook_maps_exactly(handbook: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import", "handbook", str(handbook), "--to", str(tmp_path / "a"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    archive = open_archive(tmp_path / "a")
    archive.verify()
    assert told["digest"] == archive.manifest.digest
    rows = pa.Table.from_batches(archive.transactions()).to_pylist()
    assert [row["amount_minor"] for row in rows] == [5716, 0, 262800, 8151]
    assert [row["occurred_at"] for row in rows] == [NOON_US + i * 20 * 3600 * 10**6 for i in range(4)]
    assert rows[0] == {
        "sequence": -6,
        "transaction_id": "hb-0",
        "occurred_at": NOON_US,
        "account_id": "c596",
        "merchant_id": "t3156",
        "device_id": "",
        "amount_minor": 5716,
        "currency": "EUR",
        "channel": "pos",
        "mcc": "0000",
        "country": "ZZ",
        "latitude_e6": None,
        "longitude_e6": None,
    }
    labels = archive.labels().to_pylist()
    assert [label["transaction_id"] for label in labels] == ["hb-1", "hb-3"]
    assert [label["known_at"] for label in labels] == [
        rows[1]["occurred_at"] + 7 * DAY_US,
        rows[3]["occurred_at"] + 7 * DAY_US,
    ]
    assert [label["note"] for label in labels] == ["compromised_terminal", "leaked_card"]
    assert {(label["verdict"], label["source"]) for label in labels} == {("fraud", "archive")}


def test_handbook_label_delay_and_range(handbook: Path, tmp_path: Path) -> None:
    options = ["--label-delay-days", "2.5", "--since", "2018-04-02", "--until", "2018-04-04"]
    assert run(["import", "handbook", str(handbook), "--to", str(tmp_path / "a"), *options]) == 0
    archive = open_archive(tmp_path / "a")
    rows = pa.Table.from_batches(archive.transactions()).to_pylist()
    assert [row["transaction_id"] for row in rows] == ["hb-1", "hb-2"]
    assert archive.labels()["known_at"].to_pylist() == [rows[0]["occurred_at"] + 5 * DAY_US // 2]


def test_sparkov_maps_exactly(tmp_path: Path) -> None:
    folder = tmp_path / "sparkov"
    folder.mkdir()
    categories = ["gas_transport", "shopping_net", "grocery_pos", "travel"]
    table = pa.table(
        {
            "trans_id": pa.array(range(4), pa.int32()),
            "trans_ts": pa.array([NOON] * 4, pa.timestamp("ms")),
            "card_id": pa.array([528, 701, 339, 528], pa.int16()),
            "merchant": ["Heller, Langosh and Sons", "Friesen-D'Amore", "A_B", "A B"],
            "category": categories,
            "amt": [44.57, 3.26, 23928.79, 1.0],
            "merch_lat": pa.array([40.289588928222656, 18.5, 65.643425, 0.0], pa.float32()),
            "merch_long": pa.array([-123.05702209472656, -157.25, -69.5, 0.0], pa.float32()),
            "is_fraud": pa.array([0, 0, 1, 0], pa.int8()),
        }
    )
    pq.write_table(table, folder / "transactions-2019.parquet")
    assert run(["import", "sparkov", str(folder), "--to", str(tmp_path / "a")]) == 0
    archive = open_archive(tmp_path / "a")
    rows = pa.Table.from_batches(archive.transactions()).to_pylist()
    assert [row["merchant_id"] for row in rows] == ["Heller,_Langosh_and_Sons", "Friesen-D'Amore", "A%5FB", "A_B"]
    assert [row["channel"] for row in rows] == ["other", "ecom", "pos", "other"]
    assert [row["mcc"] for row in rows] == ["5541", "5964", "5411", "4722"]
    assert [row["amount_minor"] for row in rows] == [4457, 326, 2392879, 100]
    assert (rows[0]["latitude_e6"], rows[0]["longitude_e6"]) == (40289589, -123057022)
    assert {(row["currency"], row["country"]) for row in rows} == {("USD", "US")}
    assert archive.labels()["transaction_id"].to_pylist() == ["sp-2"]


def test_a_folder_without_the_set_is_one_clear_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import", "handbook", str(tmp_path), "--to", str(tmp_path / "a")]) == 1
    assert "transactions-*.parquet" in capsys.readouterr().err


def test_the_wrong_set_names_the_missing_column(
    handbook: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["import", "sparkov", str(handbook), "--to", str(tmp_path / "a")]) == 1
    told = capsys.readouterr().err
    assert "trans_id" in told
    assert "TRANSACTION_ID" in told
    assert not (tmp_path / "a").exists()


def test_an_existing_archive_is_kept(handbook: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["import", "handbook", str(handbook), "--to", str(tmp_path / "a")]
    assert run(command) == 0
    assert run(command) == 1
    assert "holds an archive already" in capsys.readouterr().err
    assert run([*command, "--replace"]) == 0
