"""`koc simulate`, as somebody with a draft and a question calls it."""

import json
from pathlib import Path

import pytest
from sqlalchemy import Engine

from service.infra import ids
from service.infra.db import fetch, read_session
from tests.api.test_cli import environment, koc
from tests.api.test_simulations import BY_CATEGORY, FILE, MAPPING, shop
from tests.support.shop import Shop

__all__ = ["shop"]

TOML = """
[[rules]]
kind = "percent"
rate = "20"
match = { categories = ["tea"] }

[[rules]]
kind = "percent"
rate = "5"
"""


def rows(engine: Engine, table: str) -> int:
    with read_session(engine) as session:
        return len(fetch(session, f"SELECT FROM {table}"))


@pytest.mark.parametrize(
    ("name", "content"), [("draft.toml", TOML), ("draft.json", json.dumps(BY_CATEGORY))], ids=["TOML", "JSON"]
)
def test_a_draft_is_tried_on_stored_orders(
    shop: Shop, database_url: str, engine: Engine, tmp_path: Path, name: str, content: str
) -> None:
    draft = tmp_path / name
    draft.write_text(content, encoding="utf-8")
    before = rows(engine, "posting")

    answer = koc("simulate", "--program", shop.program["id"], "--terms", str(draft), env=environment(database_url))

    assert answer.returncode == 0, answer.stderr
    lines = [" ".join(line.replace("│", " ").split()) for line in answer.stdout.splitlines()]
    assert "USD 30.00 45.00 15.00 3 3" in lines
    assert "Lan USD 20.00 40.00 20.00 2 2" in lines
    assert "Mai USD 10.00 5.00 -5.00 1 1" in lines
    assert rows(engine, "posting") == before
    simulation = answer.stdout.split("as ")[-1].strip(" .\n")
    assert shop.get(f"/v1/simulations/{simulation}").json()["state"] == "done"
    [noted] = shop.get("/v1/audit", subject=simulation).json()["data"]
    assert noted["operation"] == "koc simulate"


def test_a_draft_is_tried_on_a_file(shop: Shop, database_url: str, engine: Engine, tmp_path: Path) -> None:
    draft, mapping, orders = (tmp_path / name for name in ("draft.toml", "mapping.json", "orders.csv"))
    draft.write_text(TOML, encoding="utf-8")
    mapping.write_text(json.dumps(MAPPING), encoding="utf-8")
    orders.write_text(FILE.format(at=shop.time(days=4)) + "f-4,never,LAN,1\n", encoding="utf-8")
    before = [rows(engine, table) for table in ("inbox", "orders", "fact")]
    asked = ("simulate", "--program", shop.program["id"], "--terms", str(draft))

    answer = koc(*asked, "--file", str(orders), "--mapping", str(mapping), env=environment(database_url))

    assert answer.returncode == 0, answer.stderr
    lines = [" ".join(line.replace("│", " ").split()) for line in answer.stdout.splitlines()]
    assert "USD 8.00 4.00 -4.00 2 2" in lines
    assert any("1 rows could not be read" in line and "Row 5" in line for line in lines)
    assert [rows(engine, table) for table in ("inbox", "orders", "fact")] == before
    assert rows(engine, "simulation_order") == rows(engine, "simulation_part") == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(["--program", "prg_x"], "--program takes the id", id="no id"),
        pytest.param(["--program", ids.encode("prg", ids.new_id())], "no such programme", id="nobody's"),
        pytest.param(["--terms", "{bad}"], "rules.0.percent.rate", id="terms that are none"),
        pytest.param(["--file", "{draft}"], "--mapping", id="a file without a mapping"),
        pytest.param(["--file", "{draft}", "--mapping", "{mapping}"], "has no column", id="a mapping of another file"),
        pytest.param(["--currency", "XXQ"], "XXQ", id="no currency"),
    ],
)
def test_what_does_not_fit_is_told_and_nothing_begun(
    shop: Shop, database_url: str, engine: Engine, tmp_path: Path, arguments: list[str], told: str
) -> None:
    files = {name: tmp_path / f"{name}.json" for name in ("draft", "bad", "mapping")}
    files["draft"].write_text(json.dumps(BY_CATEGORY), encoding="utf-8")
    files["bad"].write_text(json.dumps({"rules": [{"kind": "percent", "rate": 5}]}), encoding="utf-8")
    files["mapping"].write_text(json.dumps(MAPPING), encoding="utf-8")
    given = ["--program", shop.program["id"], "--terms", "{draft}", *arguments]

    answer = koc("simulate", *(each.format(**files) for each in given), env=environment(database_url))

    assert answer.returncode == 2, answer.stdout
    assert told in answer.stderr
    assert rows(engine, "simulation") == 0
