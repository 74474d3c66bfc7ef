"""The page of a statement: to the letter for a small one, whole in every language, and text whatever it is told."""

import re
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import pytest

from service.domain.statement import MovementKind
from service.domain.wording.languages import Language
from service.domain.wording.statements import LABELS, Label
from service.reports.render_statement import render_csv, render_html
from tests.support.statement_pages import Json, a_statement, digest

GOLDEN = Path(__file__).parent.parent / "fixtures" / "statements" / "small.en.html"


def page(document: Json, language: Language = Language.EN) -> str:
    """The page without its styles."""
    written = render_html(document, digest=digest(document), language=language)
    return re.sub(r"<style>.*</style>", "<style></style>", written, flags=re.DOTALL)


def words(document: Json, language: Language = Language.EN) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page(document, language))))


def test_a_small_statement_is_written_to_the_letter() -> None:
    """After a change that is meant, write `page(a_statement(orders=1))` there again and read the difference."""
    written = page(a_statement(orders=1))

    assert written == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("language", Language)
def test_every_page_says_all_there_is_to_say(language: Language) -> None:
    """Each label stands on one of these pages, so none was forgotten in the template."""
    told = a_statement(orders=7)
    capped, voided, nothing, unsent, credit, adjusted = (a_statement(orders=1) for _ in range(6))
    capped["commissions"][0]["receipt"]["capped_minor"] = 100
    voided["commissions"][0]["receipt"]["voided"] = True
    nothing |= {"commissions": [], "payouts": [], "others": []}
    unsent["payouts"][0] |= {"split": None}
    adjusted["commissions"][0]["receipt"]["adjustments"] = [{"amount_minor": 7, "reason_code": "goodwill"}]
    billed = a_statement(billed=True, provisional=True)
    credit["self_billing"] = {**billed["self_billing"], "amount_minor": -5}

    since = (
        render_html(told, digest=b"", language=language, confirmed_at=datetime(2026, 11, 9, tzinfo=UTC)),
        render_html(told, digest=b"", language=language, replaced_by="2026-000200"),
    )

    said = " ".join(words(each, language) for each in (told, capped, voided, nothing, unsent, credit, billed, adjusted))
    said += unescape(" ".join(since))

    plain = {label: re.split(r"\{[^}]*\}", getattr(LABELS[label], language.value)) for label in Label}
    missing = [label for label, parts in plain.items() if not all(part.strip() in said for part in parts)]
    assert missing == []


@pytest.mark.parametrize("kind", MovementKind)
def test_every_kind_of_movement_has_its_words_on_the_page(kind: MovementKind) -> None:
    document = a_statement(orders=1)
    document["others"][0]["kind"] = kind.value
    document["waterfall"].insert(1, {"step": kind.value, "amount_minor": 5})

    assert len({words(document, language) for language in Language}) == len(Language)


def test_a_provisional_one_says_what_became_of_it() -> None:
    document = a_statement(provisional=True)
    at = datetime(2026, 11, 8, 20, tzinfo=UTC)

    plain = render_html(document, digest=b"", language=Language.EN)
    confirmed = render_html(document, digest=b"", language=Language.EN, confirmed_at=at)
    replaced = render_html(document, digest=b"", language=Language.EN, confirmed_at=at, replaced_by="2026-000200")

    assert "Provisional:" in plain
    # By the calendar of the shop in Vietnam.
    assert "Confirmed on 9 Nov 2026" in confirmed
    assert "Provisional:" not in confirmed
    assert "Replaced: 2026-000200 took its place." in replaced


def test_a_payout_is_told_with_the_steps_of_its_tax() -> None:
    said = words(a_statement())

    assert "Vietnam: Decree 253/2026/NĐ-CP" in said
    assert "10% of 6,000,000 VND is 600,000 VND." in said


def test_amounts_are_written_as_the_language_writes_them() -> None:
    assert "-5,400,000" in words(a_statement(), Language.EN)
    assert "-5.400.000" in words(a_statement(), Language.VI)
    assert "-5,400,000" in words(a_statement(), Language.ZH)


def test_bars_lie_within_their_chart_and_meet() -> None:
    document = a_statement(orders=40)
    document["waterfall"] = [
        {"step": "opening", "amount_minor": -500},
        {"step": "earned", "amount_minor": 900},
        {"step": "sent", "amount_minor": -100},
        {"step": "closing", "amount_minor": 300},
    ]

    bars = [(int(x), int(width)) for x, width in re.findall(r'x="(\d+)" y="4" width="(\d+)"', page(document))]

    assert bars == [(0, 555), (0, 1000), (888, 111), (555, 333)]


def test_a_statement_of_nothing_has_a_page() -> None:
    document = a_statement(orders=1)
    nothing = [{"step": "opening", "amount_minor": 0}, {"step": "closing", "amount_minor": 0}]
    document |= {"commissions": [], "payouts": [], "others": [], "waterfall": nothing}

    assert "Nothing moved in the period." in words(document)
    assert render_csv(document).startswith("row,number,")


HOSTILE = "</td><img src=x onerror=alert(1)>&\"'"


def test_nothing_that_somebody_wrote_becomes_markup() -> None:
    document = a_statement(orders=1, billed=True, name=HOSTILE)
    document["merchant"] |= {"name": HOSTILE, "address": HOSTILE, "vat_id": HOSTILE}
    document["affiliate"]["external_id"] = HOSTILE
    document["self_billing"] |= {
        "reference": HOSTILE,
        "vat_note": HOSTILE,
        "supplier": dict.fromkeys(document["self_billing"]["supplier"], HOSTILE),
    }
    order = document["commissions"][0]
    order |= {"order_number": HOSTILE, "program": HOSTILE}
    order["receipt"]["lines"][0] |= {"sku": HOSTILE}
    order["receipt"]["adjustments"] = [{"amount_minor": 1, "reason_code": HOSTILE}]
    document["others"][0]["order_number"] = HOSTILE

    for language in Language:
        written = page(document, language)
        assert "<img" not in written
        assert written.count("&lt;img src=x onerror=alert(1)&gt;&amp;&#34;&#39;") > 10


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t", "＝"])
def test_no_cell_of_the_csv_runs_as_a_formula(begins: str) -> None:
    document = a_statement(orders=1)
    document["commissions"][0]["order_number"] = f"{begins}cmd|'/c calc'!A1"

    written = render_csv(document)

    assert f"'{begins}cmd" in written
    assert not re.search(rf'(^|,|"){re.escape(begins)}cmd', written, re.MULTILINE)
    # What is below zero stays a number.
    assert re.search(r",-5400000,", written)
