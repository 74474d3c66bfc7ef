"""A destination is one text at rest, and one identity whoever is named as its owner."""

import pytest

from service.domain.destination import AccountType, Destination
from service.domain.errors import InvariantBroken

BANK = Destination(
    type=AccountType.BANK, account="0123456789", holder="NGUYỄN THỊ MINH", bank_code="970436", country="VN"
)


@pytest.mark.parametrize(
    "destination",
    [
        BANK,
        Destination(type=AccountType.PROVIDER, account="acct_1"),
        Destination(type=AccountType.IBAN, account="DE89370400440532013000", holder="Å. Ö.", town="Köln", country="DE"),
    ],
)
def test_a_destination_is_read_as_it_was_written(destination: Destination) -> None:
    assert Destination.of_text(destination.to_text()) == destination


def test_a_provider_gets_its_id_and_nothing_else() -> None:
    assert Destination(type=AccountType.PROVIDER, account="acct_1").to_text() == "acct_1"


@pytest.mark.parametrize("text", ["{", '{"type": "bank", "acount": "1"}', '{"type": "bank", "account": 1}'])
def test_a_text_nobody_wrote_is_refused(text: str) -> None:
    with pytest.raises(InvariantBroken):
        Destination.of_text(text)


def test_one_account_has_one_identity_whoever_is_named_as_its_owner() -> None:
    other_name = Destination(type=AccountType.BANK, account="0123456789", holder="MINH NGUYEN", bank_code="970436")
    other_bank = Destination(type=AccountType.BANK, account="0123456789", holder=BANK.holder, bank_code="970407")

    assert other_name.identity == BANK.identity
    assert other_bank.identity != BANK.identity
