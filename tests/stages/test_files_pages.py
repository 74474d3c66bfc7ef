"""What docs/imports.md and docs/exports.md show is what happens."""

import re
import tomllib
from pathlib import Path

from sqlalchemy import Engine

from service.infra.clock import utc_now
from service.intake.mapping import read_mapping
from service.reports.export import WITHHELD, export, exported_tables
from tests.support.full_books import full_books
from tests.support.house import ROOT
from tests.support.imports import read, written
from tests.support.pages import PYTHON, blocks

EXPORTS_PAGE = ROOT / "docs" / "exports.md"
IMPORTS, EXPORTS = (ROOT / "docs" / "imports.md").read_text(), EXPORTS_PAGE.read_text()


def test_the_example_of_an_import_is_read_as_it_says(tmp_path: Path) -> None:
    files = dict(re.findall(r"^cat >(\S+) <<'END'\n(.*?)^END$", IMPORTS, re.MULTILINE | re.DOTALL))
    mapping = read_mapping(tomllib.loads(files["mapping.toml"]))

    first, second = read(written(tmp_path, files["orders.csv"]), mapping)

    assert [line["net"] for line in first["lines"]] == ["2501.00", "99.00"]
    assert first["placed_at"] == "2026-01-31T02:30:00Z"
    assert (first["coupon_codes"], first["cancelled"], second["cancelled"]) == (["ANN10"], False, True)


def test_every_reason_of_a_refusal_has_its_line() -> None:
    source = "".join((ROOT / "service" / "intake" / name).read_text() for name in ("cells.py", "import_rows.py"))
    reasons = set(re.findall(r"(?:BadCell\(|Refused\([^\"]+,)\s*\"([a-z_]+)\"", source))

    assert len(reasons) > 10
    assert {reason for reason in reasons if f"`{reason}`" not in IMPORTS} == set()


def test_every_kind_of_line_and_every_secret_left_behind_is_named() -> None:
    named = set(re.findall(r"`([\w.]+)`", EXPORTS))

    assert {table.name for table in exported_tables()} - named == set()
    assert set(WITHHELD) - named == set()


def test_the_check_of_an_export_tells_a_whole_file_from_a_cut_one(engine: Engine, tmp_path: Path) -> None:
    [checks] = [block.text for block in blocks(EXPORTS_PAGE) if block.language == PYTHON]
    names: dict[str, object] = {}
    # Without its last line, which asks about a reader's own file.
    exec(checks.rpartition("\n")[0], names)  # noqa: S102 - our own page
    whole = names["whole"]
    written_whole = b"".join(export(engine, full_books(engine).merchant_id, at=utc_now()))

    end_is_gone = written_whole[: written_whole.rindex(b"\n", 0, -1) + 1]
    forms = (written_whole, end_is_gone, written_whole.replace(b'"Shop"', b'"Shap"'))

    assert callable(whole)
    assert [whole(str(written(tmp_path, form, "file"))) for form in forms] == [True, False, False]
