"""The page about tax tells of every table with its days and its source, and of every detail that is asked."""

import re

from service.domain.withholding.details import BY_COUNTRY, OF_US_PAYERS
from service.domain.withholding.tables import TABLES
from tests.support.house import ROOT

PAGE = (ROOT / "docs" / "tax.md").read_text(encoding="utf-8")


def test_the_page_lists_every_table_with_its_days_and_no_other() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (?:`|with `)(\w+)` \| ([0-9a-z -]+) \|", PAGE, re.MULTILINE)

    assert rows == [
        (
            table.name.value,
            "vat" if table.regime is None else table.regime.value,
            f"from {table.since}" if table.until is None else f"{table.since} to {table.until}",
        )
        for table in TABLES
    ]


def test_the_page_lists_every_detail_and_no_other() -> None:
    _, asked, *_ = re.split(r"^## (?:What is asked of a payee|Registers)$", PAGE, flags=re.MULTILINE)
    rows = re.findall(r"^\| (?:VN|CN|VN, CN|all) \| (`.+?`) \|", asked, re.MULTILINE)

    told = [name for row in rows for name in re.findall(r"`(\w+)`", row)]

    assert len(told) == len(set(told))
    assert set(told) == {each.name for details in (*BY_COUNTRY.values(), OF_US_PAYERS) for each in details}


def test_the_page_says_first_that_a_professional_must_confirm_it() -> None:
    opening = PAGE.split("## ", 1)[0]

    assert "professional must confirm every figure" in opening
    assert all(not table.approved_by for table in TABLES), "then say on the page who approved what"
