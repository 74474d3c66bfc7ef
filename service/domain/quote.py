"""What one version of the terms gives for an order, line by line, as receipts explain it."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, assert_never

from service.domain.conditions import Situation
from service.domain.money import round_half_away
from service.domain.order import NetLine
from service.domain.program import ProgramVersion
from service.domain.rules import Flat, LineFee, Part, Percent, Rule, by_funder, exact_shares, service_fee, total_of
from service.domain.written import percent_of

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LineShare:
    """What one line earns. parts: by component; none where no rule speaks for it, or it is excluded.

    exact: in minor units before rounding, between 0 and what is left of the line. fee: an agent's, on top.
    """

    line: NetLine
    parts: tuple[Part, ...]
    exact: Fraction
    commission_minor: int
    excluded: bool = False
    fee: LineFee | None = None

    @classmethod
    def of(
        cls, line: NetLine, parts: tuple[Part, ...], *, excluded: bool = False, fee: LineFee | None = None
    ) -> "LineShare":
        exact = total_of(parts)
        return cls(line, parts, exact, round_half_away(exact), excluded, fee)


@dataclass(frozen=True, slots=True)
class Quote:
    """What one version of the terms gives for one order, or for those of its lines that a credit covers."""

    version: ProgramVersion
    order: Situation
    shares: list[LineShare]

    @property
    def cap_minor(self) -> int | None:
        return self.version.terms.cap_minor(self.order.currency)

    @property
    def uncapped_minor(self) -> int:
        return sum(share.commission_minor for share in self.shares)

    @property
    def total_minor(self) -> int:
        return self.uncapped_minor if self.cap_minor is None else min(self.uncapped_minor, self.cap_minor)

    @property
    def worth_minor(self) -> int:
        """What versions are compared by: what is left of the total for the affiliate, before an agency has its share."""
        fee = self.version.terms.technical_fee
        return self.total_minor if fee is None else self.total_minor - round_half_away(self.total_minor * fee.rate)

    def receipt(self, *, considered: "Sequence[Quote]", voided: bool, payable: int) -> JsonObject:
        """Everything needed to recompute by hand what a single payee earns."""
        return {
            **self.head(considered),
            "lines": [self.line_receipt(share) for share in self.shares],
            "sum_of_lines_minor": self.uncapped_minor,
            "cap_minor": self.cap_minor,
            "voided": voided,
            "target_minor": payable,
            "borne_by": self.borne_by([share.commission_minor for share in self.shares], payable),
        }

    def head(self, considered: "Sequence[Quote]") -> JsonObject:
        """What holds for all lines. considered: the version in force, then the protected ones."""
        return {
            "program_version": self.version.number,
            "versions_considered": [
                {
                    "version": quoted.version.number,
                    "standing": "in_force" if index == 0 else "protected",
                    "total_minor": quoted.worth_minor,
                }
                for index, quoted in enumerate(considered)
            ],
            "currency": self.order.currency,
            "order": self.order.as_json(),
            "base": self.version.terms.base.value,
            "rounding": "line_half_away_from_zero",
        }

    def borne_by(self, by_line_minor: Sequence[int], payable: int) -> JsonObject:
        """Who bears how much. by_line_minor: what each line came to, before a cap; payable: what it comes to now."""
        shares = [(share.parts, amount) for share, amount in zip(self.shares, by_line_minor, strict=True)]
        return by_funder(self.version.terms.rules, shares, payable)

    def line_receipt(self, share: LineShare) -> JsonObject:
        line = share.line.line
        return {
            "line_id": line.id,
            "sku": line.sku,
            "category": line.category,
            "quantity": line.quantity,
            "ordered_minor": line.net_minor,
            "refunded_minor": share.line.refunded_minor,
            **({"virtual_minor": share.line.virtual_minor} if share.line.virtual_minor else {}),
            "base_minor": share.line.net_minor,
            "excluded": share.excluded,
            "parts": [self._part_receipt(part) for part in share.parts],
            "exact_minor": str(share.exact),
            "commission_minor": share.commission_minor,
        }

    def _part_receipt(self, part: Part) -> JsonObject:
        rules = self.version.terms.rules
        return {
            "component": part.component,
            "funder": rules[part.index].funder,
            "rule": part.index,
            **_pays(rules[part.index], self.order.currency),
            "exact_minor": str(part.exact),
            "candidates": [
                {
                    "rule": candidate.index,
                    "plan": rules[candidate.index].plan.value,
                    "priority": -rules[candidate.index].rank(candidate.index)[1],
                    "exact_minor": str(candidate.exact),
                    "standing": candidate.standing.value,
                }
                for candidate in part.candidates
            ],
        }


def _pays(rule: Rule, currency: str) -> JsonObject:
    match rule.pays:
        case Percent(rate):
            return {"rate": percent_of(rate), "flat_minor": None, "per": None}
        case Flat(per=per):
            return {"rate": None, "flat_minor": rule.pays.amount_minor(currency), "per": per.value}
        case _:
            assert_never(rule.pays)


def quote(version: ProgramVersion, lines: Sequence[NetLine], order: Situation) -> Quote:
    """Apply one version's rules to net goods lines: each line is rounded once, then the order is capped."""
    terms = version.terms
    excluded = [terms.excludes(line, order) for line in lines]
    earning = [line for line, out in zip(lines, excluded, strict=True) if not out]
    parts = iter(exact_shares(terms.rules, earning, order))
    shares = []
    for line, out in zip(lines, excluded, strict=True):
        own = () if out else next(parts)
        shares.append(LineShare.of(line, own, excluded=out, fee=service_fee(terms.rules, own, line)))
    return Quote(version, order, shares)
