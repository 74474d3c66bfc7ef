"""What accounting calls our accounts: a code and a name for each, the merchant's own or ours."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AccountName:
    """code: the account in the merchant's own chart. name: for people."""

    code: str
    name: str


USUAL: Mapping[str, AccountName] = {
    "paid": AccountName("1010", "Bank: payouts sent"),
    "remitted": AccountName("1020", "Bank: tax passed on"),
    "advance": AccountName("1310", "Advances to affiliates"),
    "pending": AccountName("2110", "Commissions earned, not settled"),
    "held": AccountName("2120", "Commissions on hold"),
    "payable": AccountName("2130", "Commissions payable"),
    "reserved": AccountName("2140", "Commissions in payout runs"),
    "in_transit": AccountName("2150", "Payouts in transit"),
    "taxed_carry": AccountName("2160", "Payouts carried forward"),
    "tax_withheld": AccountName("2210", "Tax withheld"),
    "platform_fee": AccountName("2220", "Platform fees"),
    "commission_expense": AccountName("6100", "Commission expense"),
    "write_off": AccountName("6110", "Debts of affiliates written off"),
    "tax_cost": AccountName("6120", "Tax borne for affiliates"),
}
"""Kind of account → what it is called where the merchant has not said otherwise. 1: assets, 2: liabilities, 6: costs."""


def chart(said: Mapping[str, AccountName], kinds: list[str]) -> dict[str, AccountName]:
    """What each kind of account is called. said: what the merchant has said."""
    return {kind: said.get(kind) or USUAL[kind] for kind in kinds}
