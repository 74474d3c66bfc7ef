"""How an order's commission is divided: several credits, an agency's share, fees on top, a technical fee.

Nobody is ever paid for whom they brought in: a line pays one affiliate per credit, at most one agency of each, and who
takes a technical fee.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any
from uuid import UUID

from service.domain.attribution import Credit
from service.domain.dated import Membership
from service.domain.money import round_half_away, spread
from service.domain.quote import LineShare, Quote
from service.domain.rules import MERCHANT, weights_of
from service.domain.written import percent_of

JsonObject = dict[str, Any]


class Role(StrEnum):
    """As what a payee has a part of a line."""

    AFFILIATE = "affiliate"
    AGENCY = "agency"
    """The affiliate's agency: its share of the commission."""
    AGENCY_FEE = "agency_fee"
    """The same agency's fee, on top of the commission."""
    AGENT_FEE = "agent_fee"
    """The fee of the agent that the rule names, on top of the commission."""
    TECHNICAL_FEE = "technical_fee"
    """Taken out of what each of the others has."""


_ON_TOP = frozenset({Role.AGENCY_FEE, Role.AGENT_FEE})


@dataclass(frozen=True, slots=True)
class Cell:
    """One payee's part of one line, before rounding. of: out of which part a technical fee is."""

    payee_id: UUID
    role: Role
    exact: Fraction
    of: Role | None = None

    @property
    def is_on_top(self) -> bool:
        return (self.of or self.role) in _ON_TOP


@dataclass(frozen=True, slots=True)
class Claim:
    """What a credit asks of an order: the best quote of its terms, and the affiliate's agency when it was placed.

    some_lines: other credits have some of the order's lines for themselves.
    """

    credit: Credit
    quotes: tuple[Quote, ...]
    """The version in force, then the protected ones."""
    membership: Membership | None = None
    some_lines: bool = False
    best: Quote = field(init=False, repr=False, compare=False)
    """The quote that gives the affiliate most. Found once: every line asks for it."""

    def __post_init__(self) -> None:
        # max keeps the first of equals: the version in force, then the protected one superseded last.
        object.__setattr__(self, "best", max(self.quotes, key=lambda quoted: quoted.worth_minor))

    def cells(self, share: LineShare) -> list[Cell]:
        """The parts of one line: the affiliate's first, then by role."""
        weight, exact = self.credit.weight, share.exact
        if not share.parts:
            return []
        agency = self.membership if self.membership is not None and self.membership.agency_id is not None else None
        technical = self.best.version.terms.technical_fee
        if agency is None and share.fee is None and technical is None and weight == 1:
            # Most lines of most shops: it is all the affiliate's.
            return [Cell(self.credit.affiliate_id, Role.AFFILIATE, exact)]
        left = max(share.line.net_minor, 0) - exact
        found: list[tuple[UUID, Role, Fraction]] = []
        # A part of a line that came back is kept, though it is nothing now: its payee's commission says so.
        if agency is None:
            found.append((self.credit.affiliate_id, Role.AFFILIATE, exact))
        else:
            assert agency.agency_id is not None
            found.append((self.credit.affiliate_id, Role.AFFILIATE, exact * (1 - agency.share)))
            if agency.share:
                found.append((agency.agency_id, Role.AGENCY, exact * agency.share))
            if agency.fee:
                # On top is never more than what the goods leave.
                fee = min(agency.fee * max(share.line.net_minor, 0), left)
                found.append((agency.agency_id, Role.AGENCY_FEE, fee))
                left -= fee
        if share.fee is not None and (agency is None or agency.agency_id == share.fee.payee_id):
            # One agency a line: where the affiliate's own has a share, another's fee is not paid.
            found.append((share.fee.payee_id, Role.AGENT_FEE, min(share.fee.exact, left)))
        cells: list[Cell] = []
        for payee_id, role, amount in found:
            taken = amount * technical.rate if technical is not None else Fraction(0)
            cells.append(Cell(payee_id, role, (amount - taken) * weight))
            if technical is not None and technical.rate:
                cells.append(Cell(technical.payee_id, Role.TECHNICAL_FEE, taken * weight, of=role))
        return cells


@dataclass(frozen=True, slots=True)
class DividedLine:
    """One line of a credit: its parts, and what each came to. others: exact parts that other credits have of the line."""

    share: LineShare
    cells: tuple[Cell, ...]
    minor: tuple[int, ...]
    before: tuple[Fraction, ...] = ()
    after: tuple[Fraction, ...] = ()

    @property
    def commission_minor(self) -> int:
        """What the line earns before a cap, without fees on top."""
        return sum(amount for cell, amount in zip(self.cells, self.minor, strict=True) if not cell.is_on_top)


@dataclass(frozen=True, slots=True)
class Division:
    """What a credit comes to, by payee.

    paid: each cell's final amount, line by line: after the cap on what the affiliate's commission comes to.
    """

    claim: Claim
    lines: tuple[DividedLine, ...]
    paid: tuple[tuple[int, ...], ...]
    cap_minor: int | None

    def by_payee(self) -> dict[UUID, int]:
        """Minor units by payee, the affiliate first."""
        found: dict[UUID, int] = {self.claim.credit.affiliate_id: 0}
        for line, amounts in zip(self.lines, self.paid, strict=True):
            for cell, amount in zip(line.cells, amounts, strict=True):
                found[cell.payee_id] = found.get(cell.payee_id, 0) + amount
        return found

    @property
    def is_plain(self) -> bool:
        """One affiliate has all of it, and nobody else anything of the same lines."""
        return self.claim.credit.weight == 1 and all(
            [cell.role for cell in line.cells] in ([Role.AFFILIATE], []) and not line.before and not line.after
            for line in self.lines
        )

    def receipt(self, payee_id: UUID, *, voided: bool) -> JsonObject:
        """Everything needed to recompute by hand what a payee earns by this credit."""
        best = self.claim.best
        payable = 0 if voided else self.by_payee()[payee_id]
        if self.is_plain:
            told = best.receipt(considered=self.claim.quotes, voided=voided, payable=payable)
            return told | self._partial()
        by_line = [line.commission_minor for line in self.lines]
        return {
            **best.head(self.claim.quotes),
            **self._partial(),
            "weight": str(self.claim.credit.weight),
            "agency": self._agency(),
            "technical_fee": self._technical(),
            "lines": [self._line(line, amounts) for line, amounts in zip(self.lines, self.paid, strict=True)],
            "sum_of_lines_minor": sum(by_line),
            "cap_minor": self.cap_minor,
            "voided": voided,
            "payee_id": str(payee_id),
            "target_minor": payable,
            "borne_by": self._borne_by(payee_id, by_line, voided=voided),
        }

    def _borne_by(self, payee_id: UUID, by_line_minor: Sequence[int], *, voided: bool) -> JsonObject:
        """Who bears what the payee earns: of the commission as its rules' funders do, what is on top the merchant."""
        own = {True: 0, False: 0}
        for line, amounts in zip(self.lines, self.paid, strict=True):
            for cell, amount in zip(line.cells, amounts, strict=True):
                if cell.payee_id == payee_id and not voided:
                    own[cell.is_on_top] += amount
        borne: dict[str, int] = self.claim.best.borne_by(by_line_minor, own[False])
        return borne | {MERCHANT: borne.get(MERCHANT, 0) + own[True]} if own[True] else borne

    def _partial(self) -> JsonObject:
        if self.claim.credit.skus is not None:
            return {"only_skus": sorted(self.claim.credit.skus)}
        return {"some_lines": True} if self.claim.some_lines else {}

    def _agency(self) -> JsonObject | None:
        member = self.claim.membership
        if member is None or member.agency_id is None:
            return None
        return {
            "payee_id": str(member.agency_id),
            "share": percent_of(member.share),
            "fee": percent_of(member.fee),
        }

    def _technical(self) -> JsonObject | None:
        fee = self.claim.best.version.terms.technical_fee
        return None if fee is None else {"payee_id": str(fee.payee_id), "rate": percent_of(fee.rate)}

    def _line(self, line: DividedLine, paid: Sequence[int]) -> JsonObject:
        told = self.claim.best.line_receipt(line.share) | {"commission_minor": line.commission_minor}
        told["fee"] = (
            None
            if line.share.fee is None
            else {
                "rule": line.share.fee.index,
                "payee_id": str(line.share.fee.payee_id),
                "exact_minor": str(line.share.fee.exact),
            }
        )
        told["others_before"] = [str(each) for each in line.before]
        told["others_after"] = [str(each) for each in line.after]
        told["division"] = [
            {
                "payee_id": str(cell.payee_id),
                "role": cell.role.value,
                "of": None if cell.of is None else cell.of.value,
                "exact_minor": str(cell.exact),
                "rounded_minor": rounded,
                "paid_minor": amount,
            }
            for cell, rounded, amount in zip(line.cells, line.minor, paid, strict=True)
        ]
        return told


_Others = tuple[tuple[Fraction, ...], tuple[Fraction, ...]]
"""Exact parts of a line that credits before one have, and those after it."""


def divide(claims: Sequence[Claim]) -> list[Division]:
    """Divide an order among its credits, in the order of their touches.

    Each line is rounded once, on the sum of all exact parts that anybody has of it; the parts share that by largest
    remainder, ties to the earlier touch, then as `Claim.cells` lists them. A credit's cap is its weight of the order's.
    """
    alone: _Others = ((), ())
    if len(claims) == 1:
        return [divided_alone(claims[0], [alone] * len(claims[0].best.shares))]
    cells = [[claim.cells(share) for share in claim.best.shares] for claim in claims]
    by_line: dict[str, list[tuple[int, int]]] = {}
    for number, claim in enumerate(claims):
        for place, share in enumerate(claim.best.shares):
            by_line.setdefault(share.line.line.id, []).append((number, place))
    others: list[list[_Others]] = [[alone] * len(own) for own in cells]
    for found in by_line.values():
        if len(found) > 1:
            exact = [tuple(cell.exact for cell in cells[number][place]) for number, place in found]
            for turn, (number, place) in enumerate(found):
                before, after = sum(exact[:turn], ()), sum(exact[turn + 1 :], ())
                others[number][place] = (before, after)
    return [divided_alone(claim, others[number]) for number, claim in enumerate(claims)]


def divided_alone(claim: Claim, others: Sequence[_Others]) -> Division:
    """What one credit comes to. others: for each of its lines the exact parts of credits before it, and after it."""
    lines = []
    for share, (before, after) in zip(claim.best.shares, others, strict=True):
        cells = claim.cells(share)
        if len(cells) == 1 and not before and not after and cells[0].exact == share.exact:
            lines.append(DividedLine(share, tuple(cells), (share.commission_minor,)))
            continue
        exact = [*before, *(cell.exact for cell in cells), *after]
        minor = spread(round_half_away(sum(exact, Fraction(0))), weights_of(exact)) if exact else []
        own = minor[len(before) : len(before) + len(cells)]
        lines.append(DividedLine(share, tuple(cells), tuple(own), before, after))
    return _capped(claim, lines)


def _capped(claim: Claim, lines: Sequence[DividedLine]) -> Division:
    whole, weight = claim.best.cap_minor, claim.credit.weight
    # A part of a minor unit that a weight leaves of the cap is nobody's: a cap is the most.
    cap = None if whole is None else whole * weight.numerator // weight.denominator
    if cap is None or sum(line.commission_minor for line in lines) <= cap:
        return Division(claim, tuple(lines), tuple(line.minor for line in lines), cap)
    capped = [
        0 if cell.is_on_top else amount for line in lines for cell, amount in zip(line.cells, line.minor, strict=True)
    ]
    shares = iter(spread(cap, capped))
    paid = tuple(
        tuple(
            amount if cell.is_on_top else share
            for cell, amount, share in zip(line.cells, line.minor, shares_of, strict=True)
        )
        for line, shares_of in ((line, [next(shares) for _ in line.cells]) for line in lines)
    )
    return Division(claim, tuple(lines), paid, cap)
