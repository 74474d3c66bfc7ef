"""Names in plain letters, and what all that a bank says of a payment means, in whatever order it says it."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.latin import without_marks
from service.domain.payout import Outcome
from service.domain.payout_file import Recipient, Said, contradict, is_of_a_copy, meant, recipient_of
from service.domain.withholding.model import PayeeKind


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        pytest.param("Nguyễn Thị Đào", "Nguyen Thi Dao", id="vietnamese"),
        pytest.param("ĐẶNG ĐÌNH ƯỚC", "DANG DINH UOC", id="vietnamese-capitals"),
        pytest.param("Phạm Ỷ Ẵ Ộ ữ ợ", "Pham Y A O u o", id="two-marks-on-a-letter"),
        pytest.param("Nguye\u0302\u0303n", "Nguyen", id="marks-written-apart"),
        pytest.param("Jürgen Groß", "Jurgen Gross", id="german"),
        pytest.param("Łukasz Żółć", "Lukasz Zolc", id="polish"),
        pytest.param("Søren Ærø Ångström", "Soren AEro Angstrom", id="nordic"),
        pytest.param("İbrahim Işık", "Ibrahim Isik", id="turkish"),
        pytest.param("Œuvre Þór Ðe", "OEuvre THor De", id="ligatures"),
        pytest.param("Ａｎｎ", "Ann", id="wide-letters"),
        pytest.param("王芳", "王芳", id="chinese-stays"),
        pytest.param("김민수", "김민수", id="korean-stays-whole"),
        pytest.param("ガギグ", "ガギグ", id="japanese-keeps-its-marks"),
        pytest.param("O'Neil-Smith 3", "O'Neil-Smith 3", id="plain"),
    ],
)
def test_a_name_loses_its_marks_and_nothing_else(name: str, plain: str) -> None:
    assert without_marks(name) == plain


@given(st.text(max_size=40))
def test_a_plain_name_stays_as_it_is(text: str) -> None:
    plain = without_marks(text)

    assert without_marks(plain) == plain


@pytest.mark.parametrize(
    ("said", "outcome", "is_contradiction"),
    [
        pytest.param([], Outcome.UNKNOWN, False, id="nothing"),
        pytest.param([Said.ACCEPTED], Outcome.UNKNOWN, False, id="taken-is-not-booked"),
        pytest.param([Said.REJECTED], Outcome.REFUSED, False, id="rejected"),
        pytest.param([Said.ACCEPTED, Said.REJECTED], Outcome.REFUSED, False, id="taken-then-rejected"),
        pytest.param([Said.BOOKED], Outcome.ACCEPTED, False, id="booked"),
        pytest.param([Said.RETURNED], Outcome.ACCEPTED, False, id="what-came-back-had-gone"),
        pytest.param([Said.REJECTED, Said.BOOKED], Outcome.ACCEPTED, True, id="rejected-and-booked"),
        pytest.param([Said.REJECTED, Said.RETURNED], Outcome.ACCEPTED, True, id="rejected-and-returned"),
        pytest.param(list(Said), Outcome.ACCEPTED, True, id="everything"),
    ],
)
def test_what_a_bank_said_means_one_thing_in_every_order(
    said: list[Said], outcome: Outcome, is_contradiction: bool
) -> None:
    for order in permutations(said):
        assert meant([*order, *order]) is outcome
        assert contradict(order) is is_contradiction


@pytest.mark.parametrize(
    ("reasons", "is_copy"),
    [
        pytest.param(["AM05"], True, id="duplication"),
        pytest.param(["DU01"], True, id="message-id"),
        pytest.param(["DU02"], True, id="payment-information-id"),
        pytest.param(["DU03"], True, id="transaction"),
        pytest.param(["DU04"], True, id="end-to-end-id"),
        pytest.param(["DU05"], True, id="instruction-id"),
        pytest.param(["DUPL"], True, id="payment"),
        pytest.param(["du01"], True, id="small-letters"),
        pytest.param(["MS03", "AM05"], True, id="one-of-several"),
        pytest.param(["NARR", "DU01: file was received before"], True, id="code-in-a-text"),
        pytest.param(["Duplicate file"], True, id="english"),
        pytest.param(["DUPLICATE_BATCH_ID"], True, id="a-wallets-own-code"),
        pytest.param(["Doppeleinreichung"], True, id="german"),
        pytest.param(["商户流水号重复"], True, id="chinese"),
        pytest.param(["Giao dịch bị tru\u0300ng"], True, id="vietnamese-with-marks-apart"),
        pytest.param(["Tên không trùng khớp"], False, id="a-name-that-does-not-match"),
        pytest.param(["AC04"], False, id="closed-account"),
        pytest.param(["AM051", "XDU01"], False, id="only-a-part-of-a-word"),
        pytest.param(["", "RJCT"], False, id="no-reason"),
        pytest.param([], False, id="nothing"),
    ],
)
def test_what_a_bank_calls_a_copy_says_nothing_of_the_payment_itself(reasons: list[str], is_copy: bool) -> None:
    assert [is_of_a_copy(said, reasons) for said in (Said.REJECTED, Said.RETURNED)] == [is_copy] * 2
    assert [is_of_a_copy(said, reasons) for said in (Said.ACCEPTED, Said.BOOKED)] == [False] * 2


@pytest.mark.parametrize(
    ("tax_kind", "is_taxed_as_company", "is_koc", "what"),
    [
        pytest.param(PayeeKind.INDIVIDUAL, False, True, Recipient.PERSON, id="a person"),
        pytest.param(PayeeKind.COMPANY, False, True, Recipient.COMPANY, id="a company by its profile"),
        pytest.param(PayeeKind.INDIVIDUAL, True, True, Recipient.COMPANY, id="a company by its rule"),
        pytest.param(PayeeKind.INDIVIDUAL, False, False, Recipient.PERSON, id="an agency that is one person"),
        pytest.param(None, False, True, Recipient.PERSON, id="a KOC without a profile"),
        pytest.param(None, False, False, Recipient.COMPANY, id="an agency without a profile"),
    ],
)
def test_what_a_payee_is_follows_its_tax_first(
    tax_kind: PayeeKind | None, is_taxed_as_company: bool, is_koc: bool, what: Recipient
) -> None:
    assert recipient_of(tax_kind, is_taxed_as_company=is_taxed_as_company, is_koc=is_koc) is what
