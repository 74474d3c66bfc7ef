"""What accounting calls our accounts."""

from service.domain.accounting import USUAL, AccountName, chart
from service.domain.ledger import AccountKind


def test_every_account_has_a_usual_code_and_name() -> None:
    assert set(AccountKind) <= set(USUAL)
    assert len({each.code for each in USUAL.values()}) == len(USUAL)


def test_what_the_merchant_says_counts_and_the_rest_is_usual() -> None:
    own = AccountName("3351", "Phải trả khác")

    named = chart({"pending": own}, ["pending", "held"])

    assert named == {"pending": own, "held": USUAL["held"]}
