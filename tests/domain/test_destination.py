"""A destination is one text at rest, and one identity whoever is named as its owner."""

import pytest

from service.domain.destination import AccountType, Destination, email_hint
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


def test_where_the_number_tells_the_bank_its_code_does_not_count() -> None:
    card = Destination(type=AccountType.BANK, account="6222021234567890128", bank_country="CN")
    with_code = Destination(
        type=AccountType.BANK, account="6222021234567890128", bank_country="CN", bank_code="102100099996"
    )

    assert card.identity == with_code.identity


def test_a_bank_told_by_name_is_another_than_one_of_another_name() -> None:
    one, same, other = (
        Destination(type=AccountType.BANK, account="0123456789", bank_name=name, bank_country="VN")
        for name in ("Vietcombank", "VIETCOMBANK", "Techcombank")
    )

    assert one.identity == same.identity
    assert one.identity != other.identity


@pytest.mark.parametrize(
    ("type_", "account", "hint"),
    [
        (AccountType.PROVIDER, "acct_1234567890", "•••7890"),
        (AccountType.PROVIDER, "ab12", "•••2"),
        (AccountType.IBAN, "DE89370400440532013000", "•••3000"),
        (AccountType.ALIPAY, "+8613812345678", "•••678"),
        (AccountType.ALIPAY, "lan@example.com", "l•••@example.com"),
        (AccountType.PAYPAL, "x@example.com", "•••@example.com"),
    ],
)
def test_a_hint_is_enough_to_recognise_and_too_little_to_use(type_: AccountType, account: str, hint: str) -> None:
    assert Destination(type=type_, account=account).hint == hint


def test_a_name_is_hinted_by_how_its_words_begin() -> None:
    assert BANK.holder_hint == "N••• T••• M•••"
    assert email_hint("lan@example.com") == "l•••@example.com"
