"""The postings of an item's way: payable and carry → reserved → in transit → paid, and each way back."""

from uuid import UUID

from service.domain.ledger import Account, AccountKind, Posting
from service.infra.ids import new_id
from service.tables.payouts import PayoutItemRow

_Leg = tuple[AccountKind, AccountKind, int]
"""(debit, credit, amount in minor units); one of 0 posts nothing."""


def account(item: PayoutItemRow, kind: AccountKind) -> Account:
    return Account(item.merchant_id, item.payee_id, kind, item.currency)


def payable(item: PayoutItemRow) -> Account:
    """The account whose versions items own: each reserve and release raises it, even by an amount of 0."""
    return account(item, AccountKind.PAYABLE)


def reserved(item: PayoutItemRow) -> list[Posting]:
    return _moved(
        item,
        "reserve",
        (AccountKind.PAYABLE, AccountKind.RESERVED, item.gross_minor),
        (AccountKind.TAXED_CARRY, AccountKind.RESERVED, item.carried_minor),
    )


def released(item: PayoutItemRow) -> list[Posting]:
    return _moved(
        item,
        "release",
        (AccountKind.RESERVED, AccountKind.PAYABLE, item.gross_minor),
        (AccountKind.RESERVED, AccountKind.TAXED_CARRY, item.carried_minor),
    )


def planned(item: PayoutItemRow, *, number: int) -> list[Posting]:
    """number: of the attempt."""
    amount_minor = item.gross_minor + item.carried_minor
    return _moved(item, f"attempt/{number}/plan", (AccountKind.RESERVED, AccountKind.IN_TRANSIT, amount_minor))


def not_sent(item: PayoutItemRow, *, number: int) -> list[Posting]:
    """The attempt was refused, withdrawn, or proven to have done nothing."""
    amount_minor = item.gross_minor + item.carried_minor
    return _moved(item, f"attempt/{number}/back", (AccountKind.IN_TRANSIT, AccountKind.RESERVED, amount_minor))


def adopted(item: PayoutItemRow, *, number: int) -> list[Posting]:
    """An attempt that did nothing, as it seemed, turns out to be on its way or done."""
    amount_minor = item.gross_minor + item.carried_minor
    return _moved(item, f"attempt/{number}/adopt", (AccountKind.RESERVED, AccountKind.IN_TRANSIT, amount_minor))


def accepted(item: PayoutItemRow, *, number: int) -> list[Posting]:
    """N went out, T and F stay for others; R, below a step of the rail, is carried with its deductions done."""
    return _moved(
        item,
        f"attempt/{number}/accept",
        (AccountKind.IN_TRANSIT, AccountKind.PAID, item.net_minor),
        (AccountKind.IN_TRANSIT, AccountKind.TAXED_CARRY, item.remainder_minor),
        (AccountKind.IN_TRANSIT, AccountKind.TAX_WITHHELD, item.tax_minor),
        (AccountKind.IN_TRANSIT, AccountKind.PLATFORM_FEE, item.fee_minor),
        (AccountKind.TAX_COST, AccountKind.TAX_WITHHELD, item.tax_borne_minor),
    )


def came_back(item: PayoutItemRow, *, before_minor: int, now_minor: int) -> list[Posting]:
    """Book only the increase of what came back, counted from the sending."""
    event = f"came-back/{now_minor}"
    return _moved(item, event, (AccountKind.PAID, AccountKind.TAXED_CARRY, now_minor - before_minor))


def _moved(item: PayoutItemRow, event: str, *legs: _Leg) -> list[Posting]:
    return [
        Posting(
            new_id(),
            event=_event(item.id, event),
            seq=seq,
            debit=account(item, source),
            credit=account(item, destination),
            amount_minor=amount_minor,
        )
        for seq, (source, destination, amount_minor) in enumerate(legs)
        if amount_minor
    ]


def _event(item_id: UUID, what: str) -> str:
    return f"payout/{item_id}/{what}"
