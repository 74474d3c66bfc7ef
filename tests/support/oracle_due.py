"""What the oracle makes of all that was told: what each order owes to whom, worked out anew each time; no line of the service."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import Any, NamedTuple

from tests.support.oracle_brought import Gone, Inputs, Past, buyer_of, skus_of
from tests.support.oracle_reads import Json, as_of, clock, moment, net_lines, newest, refund_of
from tests.support.oracle_terms import Buyer, Claim, divided, rounded, shares, worth


class Key(NamedTuple):
    order: str
    payee: str
    currency: str


class Owed(NamedTuple):
    """What a payee is owed. limit: the most an approval lets through; None without one.

    sales, placed_at: what it counts for in periods, and when; the latter only for who brought the order.
    """

    target: int = 0
    limit: int | None = None
    settles_at: datetime | None = None
    sales: int = 0
    placed_at: datetime | None = None


class Due(NamedTuple):
    """What an order owes now, by commission."""

    frozen: bool
    owed: dict[Key, Owed]


NOTHING = Owed()
NO_VERDICT: Json = {"currency": None, "amount": 0}


def together(owed: list[Owed], verdict: Json | None, currency: str) -> Owed:
    """What one payee is owed of several credits: when all of them are due, and no more than each lets through."""
    limited = any(each.limit is not None for each in owed)
    limit = sum(each.target if each.limit is None else each.limit for each in owed) if limited else None
    if verdict and verdict["amount"] is not None and verdict["currency"] == currency:
        limit = verdict["amount"]
    times = [each.settles_at for each in owed if each.settles_at]
    settles_at = max(times) if len(times) == len(owed) else None
    return owed[0]._replace(target=sum(each.target for each in owed), limit=limit, settles_at=settles_at)


@dataclass(kw_only=True)
class Told(Inputs):
    """larger: a number that orders bodies of one version as the service does; a tie-break nobody can derive."""

    larger: Callable[[bytes], Any]
    worked_out: dict[str, Due] = field(default_factory=dict)
    told: dict[str, list[tuple[bytes, Json]]] = field(default_factory=lambda: defaultdict(list))

    def shown(self, order: str) -> list[Json]:
        """The newest body of an order; several where bodies disagree."""
        return newest(self.told[order], "order", self.larger).get(order, [])

    def past(self, order: str) -> Past:
        """What the customer's other orders say of one."""
        here = {name: bodies[0] for name in self.told if (bodies := self.shown(name))}
        if order not in here or not buyer_of(here[order]):
            return Past()
        past = Past()
        for _, name in sorted((moment(shown["placed_at"]), name) for name, shown in here.items()):
            shown = here[name]
            if name == order:
                break
            if buyer_of(shown) == buyer_of(here[order]) and not shown["cancelled"]:
                past = past if past.first else past._replace(first=moment(shown["placed_at"]))
            elif buyer_of(shown) == buyer_of(here[order]):
                # Who brought it by its own touches; of several who had most of it, of equal ones who came last.
                credited = self.brought(name, shown, self._decided(name), Past())[::-1]
                if credited:
                    owner = max(credited, key=lambda credit: credit.weight).affiliate
                    gone = Gone(name, moment(shown["placed_at"]), skus_of(shown), owner)
                    past = past._replace(gone=(gone, *past.gone))
        return past

    def _decided(self, order: str) -> list[str | None]:
        return [event["payee"] for _, event in self.told[order] if event["type"] == "attribute"]

    def forget(self) -> None:
        """Work out anew whatever is asked from now on."""
        self.worked_out.clear()

    def due(self, order: str) -> Due:
        """What an order owes to whom, and whether its money is frozen."""
        if order not in self.worked_out:
            self.worked_out[order] = self._due(order)
        return self.worked_out[order]

    def _due(self, order: str) -> Due:
        told = self.told[order]
        bodies = self.shown(order)
        if not bodies:
            return Due(False, {})
        shown, currency, placed_at = bodies[0], bodies[0]["currency"], moment(bodies[0]["placed_at"])
        disputes = [versions[0] for versions in newest(told, "dispute", self.larger).values()]
        lost = {f"dispute:{each['id']}": refund_of(each) for each in disputes if each.get("outcome") == "lost"}
        refunds = lost | {key: refund_of(versions[0]) for key, versions in newest(told, "refund", self.larger).items()}
        holds = [event["type"] for _, event in told if event["type"] in {"hold", "release"}]
        verdicts = {event["payee"]: event for _, event in told if event["type"] == "verdict"}
        past = self.past(order)
        credited = self.brought(order, shown, self._decided(order), past)
        frozen = (
            len(bodies) > 1
            or holds[-1:] == ["hold"]
            or any("closed_at" not in dispute for dispute in disputes)
            or any(back.whole and back.currency != currency for back in refunds.values())
            or any(credit.own and credit.affiliate not in verdicts for credit in credited)
        )
        nets = net_lines(shown, [back for back in refunds.values() if back.currency == currency])
        buyer = Buyer(bool(buyer_of(shown)), past.first, self.zone)
        claims = []
        for credit in credited:
            choices = [(each, shares(each, nets, shown, buyer)) for each in self.terms_for(credit.affiliate, placed_at)]
            if choices:
                best, lines = max(choices, key=lambda choice: worth(choice[0], choice[1], currency))
                agency = as_of(self.roster[credit.affiliate], placed_at)
                claims.append(Claim(credit.affiliate, credit.weight, best, lines, agency))
        pause = as_of(self.pauses, placed_at)
        owed: dict[str, list[Owed]] = defaultdict(list)
        for claim, amounts in zip(claims, divided(claims, currency), strict=True):
            verdict = verdicts.get(claim.affiliate, NO_VERDICT)
            approved = verdict["amount"] is not None and verdict["currency"] == currency
            closed, settles_at = clock(
                claim.terms["settlement"],
                told,
                shown,
                disputes,
                self.zone,
                approved=approved,
                reviewed=pause == "review",
            )
            void = shown["cancelled"] or pause == "stop" or verdict["amount"] is None
            # As much of everybody's part as was approved of the affiliate's.
            part = Fraction(0) if closed else None
            if approved:
                part = Fraction(verdict["amount"], amounts[claim.affiliate]) if amounts[claim.affiliate] else None
            for payee, each in amounts.items():
                target = 0 if void or verdicts.get(payee, NO_VERDICT)["amount"] is None else each
                limit = None if part is None or part >= 1 else rounded(target * part)
                mine = payee == claim.affiliate
                sales = rounded(sum((claim.weight * line.left for line in claim.shares if line.paid), Fraction(0)))
                owed[payee].append(Owed(target, limit, settles_at, sales, placed_at if mine else None))
        return Due(
            frozen,
            {
                Key(order, payee, currency): together(each, verdicts.get(payee), currency)
                for payee, each in owed.items()
            },
        )
