"""Where money goes: what each kind of account at a rail consists of, written as one text that is encrypted at rest."""

import json
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Self

from service.domain.errors import InvariantBroken

MASK = "•••"
_SHOWN = 4
_PHONE_SHOWN = 3


class AccountType(StrEnum):
    """What kind of account a rail pays to."""

    PROVIDER = "provider"
    """An id at a provider of payments, such as `acct_…` at Stripe: one word, nothing else."""
    IBAN = "iban"
    """A bank account in the SEPA area, or another country that has IBANs."""
    BANK = "bank"
    """A bank account by number and bank, as in Vietnam and China."""
    ALIPAY = "alipay"
    """A wallet, named by an e-mail address or a phone number."""
    WECHAT = "wechat"
    """A wallet, named by the openid the merchant's app knows the payee by."""
    PAYPAL = "paypal"
    """A wallet, named by an e-mail address."""
    WISE = "wise"
    """An e-mail address that Wise asks for the account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """An account somebody is paid on. All fields are texts, empty where the type has none.

    account: what the account is known by: IBAN and account number without spaces, address or id of a wallet, id at a
    provider. holder: name of its owner as the bank knows it. bank_code: BIC, BIN or national code. bank_country: where
    the bank is, of a BANK account. country, town, street, postcode: of the holder. Countries are ISO 3166-1 alpha-2.
    """

    type: AccountType
    account: str
    holder: str = ""
    bank_code: str = ""
    bank_name: str = ""
    branch: str = ""
    bank_country: str = ""
    country: str = ""
    town: str = ""
    street: str = ""
    postcode: str = ""

    def to_text(self) -> str:
        """As it is encrypted and sent: a provider's id as it is, all others as JSON with sorted keys."""
        if self.type is AccountType.PROVIDER:
            return self.account
        return json.dumps(
            {name: value for name, value in asdict(self).items() if value}, sort_keys=True, ensure_ascii=False
        )

    @classmethod
    def of_text(cls, text: str) -> Self:
        """Read what `to_text` wrote. Raises InvariantBroken."""
        if not text.startswith("{"):
            return cls(type=AccountType.PROVIDER, account=text)
        try:
            told = json.loads(text)
        except ValueError as error:
            raise InvariantBroken("a stored destination cannot be read") from error
        known = {each.name for each in fields(cls)}
        if not told.keys() <= known or not all(isinstance(value, str) for value in told.values()):
            raise InvariantBroken("a stored destination has fields nobody knows")
        return cls(**told | {"type": AccountType(told["type"])})

    @property
    def identity(self) -> str:
        """What its fingerprint is made of: equal for two ways to write one account, whoever is named as its owner."""
        if self.type is AccountType.PROVIDER:
            return self.account
        return f"{self.type}\0{self._numbered_by}\0{self.account}"

    @property
    def _numbered_by(self) -> str:
        """The bank within which an account number is unique; empty where the number alone tells the account."""
        # In China the number of a card or account names its bank; a clearing code beside it is told or not.
        if self.type is not AccountType.BANK or self.bank_country == "CN":
            return ""
        return self.bank_code or self.bank_name.casefold()

    @property
    def hint(self) -> str:
        """The account for people who may not see it: its last characters; of an e-mail address its first and the domain."""
        name, at, domain = self.account.rpartition("@")
        if at and self.type is not AccountType.PROVIDER:
            return f"{name[:1] if len(name) > 1 else ''}{MASK}@{domain}"
        most = _PHONE_SHOWN if self.account.startswith("+") else _SHOWN
        shown = min(most, len(self.account) // 3)
        return MASK + self.account[len(self.account) - shown :]

    @property
    def holder_hint(self) -> str:
        """The owner's name for people who may not see it: how each word begins."""
        return " ".join(f"{word[0]}{MASK}" for word in self.holder.split())


def email_hint(address: str) -> str:
    """An e-mail address for people who may not see it, as of a wallet."""
    return Destination(type=AccountType.PAYPAL, account=address).hint
