"""The guide for finance tells what to do about every caution of a run, and every reason to be left out of one."""

import re

import pytest

from service.domain.payout import Excluded
from service.domain.review_of_run import RunCaution
from service.domain.withholding.model import Caution
from tests.support.house import ROOT

PAGE = (ROOT / "docs" / "finance-guide.md").read_text(encoding="utf-8")


def table(first: str) -> list[list[str]]:
    """Cells of the rows below the heading whose first cell is given."""
    [rows] = re.findall(rf"^\| {re.escape(first)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in rows.splitlines()]


def test_every_caution_of_a_run_is_told_with_what_it_means_and_what_to_do() -> None:
    rows = table("caution")

    assert [code for code, *_ in rows] == [f"`{caution.value}`" for caution in RunCaution]
    assert all(len(row) == 3 and all(row) for row in rows)


def test_every_reason_to_be_left_out_is_told_with_what_to_do() -> None:
    rows = table("left out, or dropped just before sending")

    told = [code for codes, _ in rows for code in re.findall("`([a-z_]+)`", codes)]
    assert len(told) == len(set(told))
    assert set(told) == {reason.value for reason in Excluded}
    assert all(len(row) == 2 and all(row) for row in rows)


@pytest.mark.parametrize("caution", list(Caution))
def test_a_caution_of_a_tax_decision_is_one_of_the_run_or_explained_with_the_tables(caution: Caution) -> None:
    """A certificate is no reason to look again before each run: the payee is listed at the end of the year."""
    of_the_run = {each.value for each in RunCaution}
    tax = (ROOT / "docs" / "tax.md").read_text(encoding="utf-8")

    assert (caution.value in of_the_run) is (caution is not Caution.CERTIFICATE)
    assert f"`{caution.value}`" in tax
