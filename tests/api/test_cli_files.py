"""`koc import` and `koc export`: what they say, how they end, what they leave."""

import csv
import hashlib
import json
from pathlib import Path

import pytest

from tests.api.test_cli import environment, koc
from tests.support.imports import FILES, PRESETS, written
from tests.support.shop import Shop


def import_generic(shop: Shop, database_url: str, *more: str, file: Path = FILES / "generic.csv") -> tuple[int, str]:
    source, mapping = shop.source["source"]["id"], str(PRESETS / "generic.toml")
    answer = koc("import", "--source", source, "--mapping", mapping, str(file), *more, env=environment(database_url))
    assert "Traceback" not in answer.stderr
    return answer.returncode, answer.stdout + answer.stderr


def test_an_import_is_tried_done_resumed_and_the_books_made_again_agree(
    shop: Shop, database_url: str, tmp_path: Path
) -> None:
    shop.a_coupon(shop.an_affiliate(), "ANN")
    out = tmp_path / "out.csv"

    tried = import_generic(shop, database_url, "--dry-run")
    untouched = shop.get("/v1/inbox").json()["data"]
    done = import_generic(shop, database_url, "--results", str(out))
    resumed = import_generic(shop, database_url, "--results", str(out), "--resume")
    checked = koc("check-books", "--rebuild", env=environment(database_url))

    assert (tried[0], done[0], resumed[0]) == (0, 0, 0)
    assert "What would happen" in tried[1]
    assert "4 of 4 rows" in done[1]
    assert "3 results were there before" in resumed[1]
    assert untouched == []
    with out.open(encoding="utf-8-sig", newline="") as file:
        results = list(csv.DictReader(file))
    assert [(each["order_id"], each["kind"], each["state"]) for each in results] == [
        ("1001", "order", "applied"),
        ("1001", "refund", "applied"),
        ("1002", "order", "applied"),
    ]
    assert "3 deliveries, 0 payouts, no difference" in checked.stdout, checked.stdout + checked.stderr


def test_a_refused_row_is_told_and_the_rest_counts(shop: Shop, database_url: str, tmp_path: Path) -> None:
    broken = (FILES / "generic.csv").read_text().replace("10.00,,\n", "10:00,,\n")

    code, said = import_generic(shop, database_url, file=written(tmp_path, broken))

    assert code == 1
    assert "refused" in said
    assert len(shop.get("/v1/inbox").json()["data"]) == 2


@pytest.mark.parametrize(
    ("content", "more", "word"),
    [
        ("id,at\n", (), "has no column"),
        ("id\n", ("--source", "src_" + "0" * 26), "source"),
    ],
    ids=["column", "nobody's source"],
)
def test_what_cannot_be_meant_is_a_mistake_of_the_caller(
    shop: Shop, database_url: str, tmp_path: Path, content: str | bytes, more: tuple[str, ...], word: str
) -> None:
    if "--source" in more:
        content = (FILES / "generic.csv").read_bytes()

    code, said = import_generic(shop, database_url, *more, file=written(tmp_path, content))

    assert code == 2
    assert word in said
    assert shop.get("/v1/inbox").json()["data"] == []


def test_an_export_is_written_whole_into_a_folder_and_never_over_another(
    shop: Shop, database_url: str, tmp_path: Path
) -> None:
    shop.an_order("1001")
    arguments = ("export", "--merchant", shop.id, "--out", str(tmp_path))

    made = koc(*arguments, env=environment(database_url))
    again = koc(*arguments, env=environment(database_url))

    path = Path(made.stdout.strip())
    before, _, last = path.read_bytes().removesuffix(b"\n").rpartition(b"\n")
    assert made.returncode == 0, made.stderr
    assert json.loads(last)["sha256"] == hashlib.sha256(before + b"\n").hexdigest()
    assert [each.name for each in tmp_path.iterdir() if each.suffix == ".ndjson"] == [path.name]
    assert again.returncode == 2
    assert "already" in again.stderr
