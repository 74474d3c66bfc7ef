"""Read an account as a person wrote it: check what can be checked of it, and bring it into the one form that is kept."""

import re
import unicodedata
from collections.abc import Callable
from typing import assert_never

import phonenumbers
from schwifty import BIC, IBAN
from schwifty.exceptions import InvalidChecksumDigits, InvalidCountryCode, InvalidLength, SchwiftyException

from service.domain.destination import AccountType, Destination
from service.domain.errors import Fault, Invalid
from service.domain.rails import BANK_COUNTRIES, RailName
from service.domain.text import hides_something

NAME_MAX = 70
"""Characters of a name or a part of an address: what a SEPA credit transfer carries (EPC132-08), the least of all rails."""
POSTCODE_MAX = 16

_PROVIDER_ID = {
    RailName.SANDBOX: re.compile(r"[A-Za-z0-9_-]{1,64}"),
    RailName.STRIPE_CONNECT: re.compile(r"acct_[A-Za-z0-9]{8,48}"),
    RailName.STRIPE_GLOBAL_PAYOUTS: re.compile(r"acct_[A-Za-z0-9]{8,48}"),
}
_EMAIL = re.compile(
    r"(?=.{6,254}\Z)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63})"
)
_LOCAL_PART_MAX = 64
# An openid as WeChat's own documents print it: oUpF8uMuAJO_M2pxb1Q9zNjWeS6o.
_OPENID = re.compile(r"o[A-Za-z0-9_-]{27}")
# Account numbers as NAPAS routes them; VietQR takes the same lengths.
_VN_ACCOUNT = re.compile(r"[0-9]{6,19}")
_BIN = re.compile(r"[0-9]{6}")
_CN_CARD = re.compile(r"[0-9]{16,19}")
_CN_COMPANY_ACCOUNT = re.compile(r"[0-9]{8,32}")
_CN_CLEARING_CODE = re.compile(r"[0-9]{12}")
_UNIONPAY = "62"
_SPACES = re.compile(r"[\s-]+")
# Codes of territories in BICs and IBANs that bank as one: a bank in Monaco may have a French BIC.
_OF_FRANCE = "BL GF GP MC MF MQ NC PF PM RE TF WF YT"
_ONE_COUNTRY = dict.fromkeys(_OF_FRANCE.split(), "FR") | {"GG": "GB", "IM": "GB", "JE": "GB", "AX": "FI"}


class InvalidDestination(Invalid):
    """The rail knows no account of this form, or a part of it cannot be right; `errors` names each part and an example."""

    code = "invalid-destination"
    title = "The payout destination does not fit the rail"

    def __init__(self, detail: str, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(detail)
        self.faults = faults


class _Wrong(Exception):
    """A part is not right. detail: what is, with an example, and never what was given."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class _Reading:
    """Collects what is wrong of one account, so that all of it is told at once."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def part(self, name: str, read: Callable[[], str]) -> str:
        """Return what was read of a part; empty where it is not right, which is noted."""
        try:
            return read()
        except _Wrong as wrong:
            self.faults.append(Fault(("account", *name.split("/")), wrong.code, wrong.detail))
            return ""


def provider_account(rail: RailName, text: str) -> Destination:
    """Return an account that is an id at a provider. Raises InvalidDestination."""
    form = _PROVIDER_ID.get(rail)
    if form is None or not form.fullmatch(text):
        raise InvalidDestination(f"It does not look like an account of the rail {rail}.")
    return Destination(type=AccountType.PROVIDER, account=text)


def well_formed(given: Destination, *, phone_country: str = "") -> Destination:
    """Return an account in the form that is kept, or raise InvalidDestination with all that is wrong.

    given: as it was written, its address only where one was. phone_country: where a phone number without its country
    code belongs.
    """
    reading = _Reading()
    bank_code, bank_name, bank_country = given.bank_code, given.bank_name, ""
    match given.type:
        case AccountType.IBAN:
            account = reading.part("account", lambda: _iban(given.account))
            bank_code = reading.part("bank_code", lambda: _bic(given.bank_code, account))
            bank_name = reading.part("bank_name", lambda: _bank_of(given.bank_name, account))
        case AccountType.BANK:
            bank_country = reading.part("bank_country", lambda: _bank_country(given.bank_country))
            account, bank_code = _at_bank(reading, given, bank_country)
            bank_name = reading.part("bank_name", lambda: _text(given.bank_name, NAME_MAX))
        case AccountType.ALIPAY:
            account = reading.part("account", lambda: _email_or_phone(given.account, phone_country))
        case AccountType.WECHAT:
            account = reading.part("account", lambda: _openid(given.account))
        case AccountType.PAYPAL | AccountType.WISE:
            account = reading.part("account", lambda: _email(given.account))
        case AccountType.PROVIDER:
            raise InvalidDestination("An id at a provider is told as `destination`.")
        case _:
            assert_never(given.type)
    # PayPal finds the person by the address alone; all others compare the name or print it.
    needs_name = given.type is not AccountType.PAYPAL
    read = Destination(
        type=given.type,
        account=account,
        holder=reading.part("holder", lambda: _holder(given.holder, needed=needs_name)),
        bank_code=bank_code,
        bank_name=bank_name,
        branch=reading.part("branch", lambda: _text(given.branch, NAME_MAX)),
        bank_country=bank_country,
        country=given.country,
        town=reading.part("address/town", lambda: _text(given.town, NAME_MAX)),
        street=reading.part("address/street", lambda: _text(given.street, NAME_MAX)),
        postcode=reading.part("address/postcode", lambda: _text(given.postcode, POSTCODE_MAX)),
    )
    if reading.faults:
        count = len(reading.faults)
        raise InvalidDestination(f"{count} part(s) of the account cannot be right; see errors.", tuple(reading.faults))
    return read


def bank_country_of(destination: Destination) -> str:
    """Return the country of the bank an account is at; empty where it is at none."""
    return destination.account[:2] if destination.type is AccountType.IBAN else destination.bank_country


def _iban(text: str) -> str:
    try:
        # The library takes digits of every script.
        return str(IBAN(text if text.isascii() else ""))
    except InvalidCountryCode:
        raise _Wrong("iban-country", "It must begin with the code of a country that has IBANs, as DE… or FR…") from None
    except InvalidLength:
        raise _Wrong(
            "iban-length", "It is shorter or longer than IBANs of its country, as DE89370400440532013000 is of Germany"
        ) from None
    except InvalidChecksumDigits:
        raise _Wrong(
            "iban-checksum", "Its check digits do not fit: a character is wrong, or two stand in the wrong order"
        ) from None
    except SchwiftyException:
        raise _Wrong("iban-form", "Must be an IBAN such as DE89 3704 0044 0532 0130 00") from None


def _bic(text: str, iban: str) -> str:
    """The BIC given, else the one the register of banks has for the IBAN; empty where it has none."""
    at = IBAN(iban) if iban else None
    if not text:
        known = at.bic if at else None
        return str(known) if known else ""
    try:
        bic = BIC(text)
    except SchwiftyException:
        raise _Wrong("bic", "Must be a BIC of 8 or 11 characters, such as COBADEFFXXX") from None
    if at and _country(bic.country_code) != _country(at.country_code):
        raise _Wrong("bic-country", "The BIC is of a bank in another country than the IBAN")
    return str(bic)


def _country(code: str) -> str:
    return _ONE_COUNTRY.get(code, code)


def _bank_of(text: str, iban: str) -> str:
    name = _text(text, NAME_MAX)
    return name or (IBAN(iban).bank_name or "" if iban else "")[:NAME_MAX]


def _bank_country(code: str) -> str:
    if code not in BANK_COUNTRIES:
        raise _Wrong("bank-country", "Must be where the bank is, CN or VN; banks elsewhere are told by IBAN or wallet")
    return code


def _at_bank(reading: _Reading, given: Destination, country: str) -> tuple[str, str]:
    """Account number and code of the bank."""
    number, code = _SPACES.sub("", given.account), _SPACES.sub("", given.bank_code)
    if country == "VN":
        read_code = reading.part("bank_code", lambda: _bin(code, given.bank_name))
        return reading.part("account", lambda: _vn_account(number)), read_code
    if country == "CN":
        read_code = reading.part("bank_code", lambda: _clearing_code(code))
        return reading.part("account", lambda: _cn_account(number, of_company=bool(code))), read_code
    return number, code


def _vn_account(number: str) -> str:
    if not _VN_ACCOUNT.fullmatch(number):
        raise _Wrong("account-number", "Must be the account number of 6 to 19 digits, such as 0011001234567")
    return number


def _bin(code: str, bank_name: str) -> str:
    if code and not _BIN.fullmatch(code):
        raise _Wrong("bin", "Must be the bank's BIN of 6 digits, such as 970436")
    if not code and not bank_name.strip():
        raise _Wrong("bin", "Name the bank: its BIN of 6 digits, such as 970436, or bank_name")
    return code


def _cn_account(number: str, *, of_company: bool) -> str:
    """A card number, or with the clearing code of its branch an account of a company, which has no check digit."""
    if of_company and not number.startswith(_UNIONPAY):
        if not _CN_COMPANY_ACCOUNT.fullmatch(number):
            raise _Wrong("account-number", "Must be the company's account number of 8 to 32 digits")
        return number
    if not _CN_CARD.fullmatch(number):
        raise _Wrong(
            "card-number",
            "Must be the card number of 16 to 19 digits; of a company's account give bank_code, the branch's 12 digits, too",
        )
    if not _passes_luhn(number):
        raise _Wrong("card-checksum", "Its check digit does not fit: a digit is wrong, or two stand in the wrong order")
    return number


def _clearing_code(code: str) -> str:
    if code and not _CN_CLEARING_CODE.fullmatch(code):
        raise _Wrong("clearing-code", "Must be the branch's clearing code (CNAPS) of 12 digits, such as 102100099996")
    return code


def _passes_luhn(digits: str) -> bool:
    """Whether the last digit checks the others: ISO/IEC 7812-1, annex B."""
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(int(digit) for digit in digits[::-2])) % 10 == 0


def _email(text: str) -> str:
    found = _EMAIL.fullmatch(text.strip())
    if found is None or len(found[0]) - len(found[1]) - 1 > _LOCAL_PART_MAX:
        raise _Wrong("email", "Must be an e-mail address, such as lan@example.com")
    return found[0][: -len(found[1])] + found[1].lower()


def _email_or_phone(text: str, country: str) -> str:
    if "@" in text:
        return _email(text)
    # The library also reads letters of a keypad, extensions and much around a number; nobody writes those here.
    if not re.fullmatch(r"\+?[0-9 ()./-]{5,30}", text.strip()):
        raise _Wrong("wallet", "Must be an e-mail address or a phone number, such as +86 138 1234 5678")
    try:
        number = phonenumbers.parse(text, country or None)
    except phonenumbers.NumberParseException:
        number = None
    if number is None or not phonenumbers.is_valid_number(number):
        raise _Wrong("phone", "Must be a phone number in use, with its country code, such as +86 138 1234 5678")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _openid(text: str) -> str:
    if not _OPENID.fullmatch(text.strip()):
        raise _Wrong("openid", "Must be the openid of 28 characters, such as oUpF8uMuAJO_M2pxb1Q9zNjWeS6o")
    return text.strip()


def _holder(text: str, *, needed: bool) -> str:
    name = _text(text, NAME_MAX)
    if not name:
        if needed:
            raise _Wrong("holder", "Must be the name of the account's owner as the bank knows it")
        return ""
    if not any(character.isalpha() for character in name):
        raise _Wrong("holder", "Must be a name: it has no letter")
    return name


def _text(text: str, most: int) -> str:
    """A line of text composed (NFC), with single blanks between its words."""
    line = " ".join(word for word in unicodedata.normalize("NFC", text).split(" ") if word)
    if hides_something(line):
        raise _Wrong("hidden-character", "Must hold no control character and no mark of direction")
    if len(line) > most:
        raise _Wrong("too-long", f"Must have {most} characters at most; shorten it as the bank does")
    return line
