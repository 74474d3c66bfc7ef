"""`koc import` and `koc export`: what they say, how they end, what they leave."""

import csv
import hashlib
import json
import re
from pathlib import Path

from tests.api.test_cli import environment, koc
from tests.support.imports import FILES, PRESETS, written
from tests.support.shop import Shop


def import_generic(shop: Shop, database_url: str, file: Path, *more: str) -> tuple[int, str]:
    source, mapping = shop.source["source"]["id"], str(PRESETS / "generic.toml")
    answer = koc("import", "--source", source, "--mapping", mapping, str(file), *more, env=environment(database_url))
    assert "Traceback" not in answer.stderr
    return answer.returncode, answer.stdout + answer.stderr


def test_an_import_is_tried_and_done_and_the_books_made_again_agree(
    shop: Shop, database_url: str, tmp_path: Path
) -> None:
    shop.a_coupon(shop.an_affiliate(), "ANN")
    good = (FILES / "generic.csv").read_text()
    file = written(tmp_path, good + good.splitlines()[2].replace("1002", "1003").replace("10.00,,", "10:00,,") + "\n")
    out = tmp_path / "out.csv"

    tried = import_generic(shop, database_url, file, "--dry-run")
    untouched = shop.get("/v1/inbox").json()["data"]
    done = import_generic(shop, database_url, file, "--results", str(out), "--resume")
    checked = koc("check-books", "--rebuild", env=environment(database_url))

    assert (tried[0], done[0]) == (1, 1)
    assert "What would happen" in tried[1]
    assert "decided when they are imported" in tried[1]
    assert "5 of 5 rows" in done[1]
    # Ann's coupon begins with the shop, after these orders.
    assert re.search(r"orders credited to nobody, though they name a click or coupon │ 2 ", done[1])
    assert "GET /v1/orders/{order_id}/attribution" in done[1]
    assert untouched == []
    with out.open(encoding="utf-8-sig", newline="") as results:
        found = [(each["order_id"], each["kind"], each["state"]) for each in csv.DictReader(results)]
    assert found == [
        ("1001", "order", "applied"),
        ("1001", "refund", "applied"),
        ("1002", "order", "applied"),
        ("1003", "", "refused"),
    ]
    assert "3 deliveries, 0 payouts, no difference" in checked.stdout, checked.stdout + checked.stderr


def test_a_file_that_does_not_fit_its_mapping_is_a_mistake_of_the_caller(
    shop: Shop, database_url: str, tmp_path: Path
) -> None:
    code, said = import_generic(shop, database_url, written(tmp_path, "id,at\n"))

    assert code == 2
    assert "has no column" in said


def test_a_source_that_is_nowhere_is_said_to_be_looked_for_in_which_database(shop: Shop, database_url: str) -> None:
    mapping, file = str(PRESETS / "generic.toml"), str(FILES / "generic.csv")

    answer = koc("import", "--source", "src_" + "0" * 26, "--mapping", mapping, file, env=environment(database_url))

    assert answer.returncode == 2
    assert "GET /v1/sources lists them. It was looked for in the database of DATABASE_URL." in answer.stderr


def test_an_export_is_written_whole_into_a_folder(shop: Shop, database_url: str, tmp_path: Path) -> None:
    shop.an_order("1001")

    made = koc("export", "--merchant", shop.id, "--out", str(tmp_path), env=environment(database_url))

    assert made.returncode == 0, made.stderr
    [path] = tmp_path.iterdir()
    before, _, last = path.read_bytes().removesuffix(b"\n").rpartition(b"\n")
    assert made.stdout.strip() == str(path)
    assert json.loads(last)["sha256"] == hashlib.sha256(before + b"\n").hexdigest()
