"""Accounts as people write them: what is read of each kind, what is refused, and that a refusal repeats nothing."""

from dataclasses import replace

import pytest
from schwifty import IBAN
from schwifty.registry import get_countries

from service.domain.destination import AccountType, Destination
from service.domain.rails import SEPA, RailName
from service.infra.ids import new_id
from service.infra.security import Security
from service.payouts.account import fingerprint, opened, sealed
from service.payouts.methods import NAME_MAX, InvalidDestination, bank_country_of, provider_account, well_formed

SECURITY = Security(bytes(range(32)))

IBAN_OF_ANN = Destination(type=AccountType.IBAN, account="DE89370400440532013000", holder="Ann Å")
VN_BANK = Destination(
    type=AccountType.BANK, account="0011001234567", holder="NGUYEN THI LAN", bank_code="970436", bank_country="VN"
)
CN_CARD = Destination(type=AccountType.BANK, account="6222021234567890128", holder="王小明", bank_country="CN")
ALIPAY = Destination(type=AccountType.ALIPAY, account="lan@example.com", holder="王小明")
WECHAT = Destination(type=AccountType.WECHAT, account="oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", holder="王小明")
PAYPAL = Destination(type=AccountType.PAYPAL, account="lan@example.com")
WISE = Destination(type=AccountType.WISE, account="lan@example.com", holder="Lan")


# The IBANs are the examples of the registry (SWIFT, IBAN Registry) and of the ECBS.
@pytest.mark.parametrize(
    ("given", "account"),
    [
        pytest.param(replace(IBAN_OF_ANN, account=written), kept, id=kept[:2])
        for written, kept in (
            ("de89 3704 0044 0532 0130 00", "DE89370400440532013000"),
            ("GB29 NWBK 6016 1331 9268 19", "GB29NWBK60161331926819"),
            ("FR14 2004 1010 0505 0001 3M02 606", "FR1420041010050500013M02606"),
            ("BE68 5390 0754 7034", "BE68539007547034"),
            ("NO93 8601 1117 947", "NO9386011117947"),
            ("MT84 MALT 0110 0001 2345 MTLC AST0 01S", "MT84MALT011000012345MTLCAST001S"),
            ("TR33 0006 1005 1978 6457 8413 26", "TR330006100519786457841326"),
        )
    ]
    + [
        pytest.param(replace(VN_BANK, account="0011 0012-34567"), "0011001234567", id="VN bank"),
        pytest.param(replace(VN_BANK, bank_code="", bank_name="Vietcombank"), "0011001234567", id="VN bank by name"),
        pytest.param(replace(CN_CARD, account="6222 0212 3456 7890 128"), "6222021234567890128", id="CN card"),
        pytest.param(
            replace(CN_CARD, account="0200001234567890123", bank_code="102100099996"),
            "0200001234567890123",
            id="CN company",
        ),
        pytest.param(replace(ALIPAY, account="Lan.X+pay@Example.COM"), "Lan.X+pay@example.com", id="Alipay by e-mail"),
        pytest.param(replace(ALIPAY, account="138 1234 5678"), "+8613812345678", id="Alipay by phone"),
        pytest.param(replace(ALIPAY, account="+852 5123 4567"), "+85251234567", id="Alipay by phone elsewhere"),
        pytest.param(WECHAT, WECHAT.account, id="WeChat"),
        pytest.param(PAYPAL, PAYPAL.account, id="PayPal without a name"),
        pytest.param(replace(WISE, account=" lan@example.com "), "lan@example.com", id="Wise"),
    ],
)
def test_an_account_is_read_however_it_is_written(given: Destination, account: str) -> None:
    assert well_formed(given, phone_country="CN").account == account


@pytest.mark.parametrize(
    ("given", "place", "code"),
    [
        pytest.param(replace(IBAN_OF_ANN, account="DE88370400440532013000"), "account", "iban-checksum", id="checksum"),
        pytest.param(replace(IBAN_OF_ANN, account="DE89370400440532031000"), "account", "iban-checksum", id="swapped"),
        pytest.param(replace(IBAN_OF_ANN, account="GB29NWBK6016133192681"), "account", "iban-length", id="too short"),
        pytest.param(replace(IBAN_OF_ANN, account="VN89370400440532013000"), "account", "iban-country", id="no IBANs"),
        pytest.param(replace(IBAN_OF_ANN, account="DE89370400440532O13000"), "account", "iban-form", id="a letter"),
        pytest.param(
            replace(IBAN_OF_ANN, account="DE８９370400440532013000"), "account", "iban-form", id="wide digits"
        ),
        pytest.param(replace(IBAN_OF_ANN, account="lan@example.com"), "account", "iban-form", id="no IBAN at all"),
        pytest.param(replace(IBAN_OF_ANN, bank_code="COBADE"), "bank_code", "bic", id="short BIC"),
        pytest.param(replace(IBAN_OF_ANN, bank_code="PSSTFRPP"), "bank_code", "bic-country", id="a French BIC"),
        pytest.param(replace(IBAN_OF_ANN, holder=""), "holder", "holder", id="no holder"),
        pytest.param(replace(IBAN_OF_ANN, holder="  "), "holder", "holder", id="a blank holder"),
        pytest.param(replace(IBAN_OF_ANN, holder="4711"), "holder", "holder", id="a holder of digits"),
        pytest.param(replace(IBAN_OF_ANN, holder="x" * (NAME_MAX + 1)), "holder", "too-long", id="a long holder"),
        pytest.param(replace(IBAN_OF_ANN, holder="Lan\u202enaL"), "holder", "hidden-character", id="turned around"),
        pytest.param(replace(IBAN_OF_ANN, holder="Lan\x00"), "holder", "hidden-character", id="a control"),
        pytest.param(replace(IBAN_OF_ANN, town="x" * 71), "address/town", "too-long", id="a long town"),
        pytest.param(replace(IBAN_OF_ANN, postcode="1" * 17), "address/postcode", "too-long", id="a long postcode"),
        pytest.param(replace(VN_BANK, account="98765"), "account", "account-number", id="a short number"),
        pytest.param(replace(VN_BANK, account="LAN4711"), "account", "account-number", id="a name for a number"),
        pytest.param(replace(VN_BANK, bank_code="97043"), "bank_code", "bin", id="a short BIN"),
        pytest.param(replace(VN_BANK, bank_code="", bank_name=" "), "bank_code", "bin", id="no bank"),
        pytest.param(replace(VN_BANK, bank_country="US"), "bank_country", "bank-country", id="a bank elsewhere"),
        pytest.param(replace(CN_CARD, account="6222021234567890129"), "account", "card-checksum", id="card checksum"),
        pytest.param(replace(CN_CARD, account="6222021234567980128"), "account", "card-checksum", id="card swapped"),
        pytest.param(replace(CN_CARD, account="622202123456789"), "account", "card-number", id="a short card"),
        pytest.param(
            replace(CN_CARD, account="6222021234567890129", bank_code="102100099996"),
            "account",
            "card-checksum",
            id="a card is one, clearing code or not",
        ),
        pytest.param(replace(CN_CARD, bank_code="1021"), "bank_code", "clearing-code", id="a short clearing code"),
        pytest.param(replace(ALIPAY, account="4711"), "account", "wallet", id="no wallet"),
        pytest.param(replace(ALIPAY, account="1281234567"), "account", "phone", id="no such number"),
        pytest.param(replace(ALIPAY, account="minh@"), "account", "email", id="half an address"),
        pytest.param(replace(WECHAT, account="wxid_lan"), "account", "openid", id="a WeChat name"),
        pytest.param(replace(PAYPAL, account="minh@localhost"), "account", "email", id="no domain"),
        pytest.param(replace(PAYPAL, account="lan..x@example.com"), "account", "email", id="two dots"),
        pytest.param(replace(PAYPAL, account=f"{'x' * 65}@example.com"), "account", "email", id="a long name"),
        pytest.param(replace(WISE, account="lan@example.com\nx"), "account", "email", id="two lines"),
    ],
)
def test_what_cannot_be_right_is_named_and_not_repeated(given: Destination, place: str, code: str) -> None:
    with pytest.raises(InvalidDestination) as refused:
        well_formed(given, phone_country="CN")

    [fault] = refused.value.faults
    assert (fault.place, fault.code) == (("account", *place.split("/")), code)
    said = refused.value.detail + fault.detail
    for secret in (given.account, given.holder.strip()):
        assert not secret or secret not in said


def test_all_that_is_wrong_is_told_at_once() -> None:
    given = replace(VN_BANK, account="1", bank_code="x", holder="")

    with pytest.raises(InvalidDestination) as refused:
        well_formed(given)

    assert [fault.place[-1] for fault in refused.value.faults] == ["bank_code", "account", "holder"]


def test_the_bank_of_an_iban_is_looked_up_where_it_is_not_told() -> None:
    read = well_formed(IBAN_OF_ANN)
    told = well_formed(replace(IBAN_OF_ANN, bank_code="deutdeff", bank_name="Deutsche"))
    unknown = well_formed(replace(IBAN_OF_ANN, account=str(IBAN.from_bban("DE", "999999990000004711"))))

    assert (read.bank_code, read.bank_name, bank_country_of(read)) == ("COBADEFFXXX", "Commerzbank", "DE")
    assert (told.bank_code, told.bank_name) == ("DEUTDEFF", "Deutsche")
    assert (unknown.bank_code, unknown.bank_name) == ("", "")


def test_a_bank_of_monaco_may_have_a_french_bic() -> None:
    given = Destination(
        type=AccountType.IBAN, account="MC5811222000010123456789030", holder="Ann", bank_code="CMCIFRPP"
    )

    assert well_formed(given).bank_code == "CMCIFRPP"


def test_a_name_is_kept_composed_with_single_blanks() -> None:
    assert well_formed(replace(WISE, holder=" Nguye\u0302\u0303n   Lan ")).holder == "Nguyễn Lan"


@pytest.mark.parametrize(
    ("rail", "text"),
    [
        (RailName.SANDBOX, "no spaces"),
        (RailName.STRIPE_CONNECT, "sandbox_ok"),
        (RailName.STRIPE_GLOBAL_PAYOUTS, "acct_"),
        (RailName.SEPA_FILE, "DE89370400440532013000"),
    ],
)
def test_an_id_at_a_provider_has_the_providers_form(rail: RailName, text: str) -> None:
    with pytest.raises(InvalidDestination) as refused:
        provider_account(rail, text)

    assert text not in refused.value.detail


def test_the_sepa_area_holds_all_that_the_library_counts_to_it() -> None:
    theirs = {code for code in get_countries() if IBAN(f"{code}00", allow_invalid=True).in_sepa_zone}

    assert len(theirs) > 30
    assert theirs <= SEPA


def test_an_account_is_recognised_however_it_is_written_and_on_every_rail() -> None:
    merchant, other = new_id(), new_id()

    def mark(account: Destination, rail: str = "wise_file", of: object = merchant) -> str:
        return fingerprint(SECURITY, of, rail, account)  # type: ignore[arg-type] # either of two ids

    same = [
        (well_formed(replace(IBAN_OF_ANN, account="de89 3704 0044 0532 0130 00", holder="Somebody")), IBAN_OF_ANN),
        (well_formed(replace(CN_CARD, bank_code="102100099996")), CN_CARD),
        (replace(VN_BANK, holder="LAN", branch="Hà Nội"), VN_BANK),
        (replace(PAYPAL, account="LAN@example.com"), PAYPAL),
    ]
    others = [replace(VN_BANK, bank_code="970407"), replace(VN_BANK, account="0011001234568"), PAYPAL, WISE]

    for one, another in same:
        assert mark(one) == mark(another, rail="sepa_file")
    assert len({mark(each) for each in (VN_BANK, *others)}) == 5
    assert mark(VN_BANK) != mark(VN_BANK, of=other)


def test_what_was_known_of_a_providers_account_before_kinds_still_is() -> None:
    merchant = new_id()
    account = provider_account(RailName.STRIPE_CONNECT, "acct_1234567890")

    assert fingerprint(SECURITY, merchant, "stripe_connect", account) == SECURITY.fingerprint(
        merchant, "stripe_connect", "acct_1234567890"
    )


@pytest.mark.parametrize("account", [IBAN_OF_ANN, PAYPAL, provider_account(RailName.SANDBOX, "sandbox_ok")])
def test_an_account_is_kept_sealed(account: Destination) -> None:
    kept = sealed(SECURITY, account)

    assert account.account.encode() not in kept
    assert opened(SECURITY, kept) == account
