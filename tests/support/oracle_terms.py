"""What the oracle makes of terms, as docs/money.md and docs/terms.md have it: lines, payees, periods; no line of the service."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, tzinfo
from fractions import Fraction
from typing import NamedTuple

from tests.support.oracle_reads import History, Json, dealt, moment, of

PLANS = ("exclusive", "target", "open")
NEVER = "9999"
ABOUT_CUSTOMERS = frozenset({"customer", "customer_months"})


class Buyer(NamedTuple):
    """known: whether an order says whose it is. first: when the customer's first order was placed, if another one."""

    known: bool
    first: datetime | None
    zone: tzinfo


class Share(NamedTuple):
    """What a line earns before it is divided and rounded. paid: whether a rule speaks for it, so that it pays anybody.

    agent, fee: who has a service fee on top, and how much.
    """

    left: int
    exact: Fraction
    paid: bool
    agent: str | None = None
    fee: Fraction = Fraction(0)


class Claim(NamedTuple):
    """What one affiliate is credited with: its part of each line, by which terms. agency: whose roster it was on, for what."""

    affiliate: str
    weight: Fraction
    terms: Json
    shares: list[Share]
    agency: Json | None


class Part(NamedTuple):
    payee: str
    exact: Fraction
    on_top: bool


def asks_about_customers(terms: Json) -> bool:
    asked = [*terms.get("exclude", [])]
    for rule in terms["rules"]:
        asked += [each for conditions in rule.get("when", {}).values() for each in conditions]
    return bool(terms["attribution"].get("reorder_days")) or any(each["kind"] in ABOUT_CUSTOMERS for each in asked)


def months_after(first: date, months: int) -> date:
    """The same day so many months later, the last of a month that is shorter."""
    month = first.replace(day=1)
    for _ in range(months):
        month = (month + timedelta(days=32)).replace(day=1)
    last = (month + timedelta(days=32)).replace(day=1) - timedelta(days=1)
    return month.replace(day=min(first.day, last.day))


# Lines.


def shares(terms: Json, nets: list[tuple[Json, int]], shown: Json, buyer: Buyer) -> list[Share]:
    """What each line earns by one version of the terms, before rounding.

    For each line and component one rule counts: that of the highest plan, then priority, then amount, then the first.
    """
    currency, whole = shown["currency"], sum(left for _, left in nets)

    def true(condition: Json, line: Json, left: int) -> bool:
        match condition["kind"]:
            case "sku":
                return line["sku"] in condition["in"]
            case "placed":
                return moment(condition["from"]) <= moment(shown["placed_at"])
            case "customer":
                return buyer.known and (buyer.first is None) == (condition["is"] == "new")
            case "customer_months":
                placed_on = moment(shown["placed_at"]).astimezone(buyer.zone).date()
                first_on = buyer.first.astimezone(buyer.zone).date() if buyer.first else None
                return buyer.known and (not first_on or placed_on < months_after(first_on, condition["below"]))
        amount = left if condition["kind"] == "line_amount" else whole
        least, below = (of(condition.get(end, []), currency, -1) for end in ("at_least", "below"))
        return max(least, below) >= 0 and least <= amount and (below < 0 or amount < below)

    def speaks(rule: Json, line: Json, left: int) -> bool:
        when = rule.get("when", {})
        some = when.get("any", [])
        return (
            (not rule["match"]["skus"] or line["sku"] in rule["match"]["skus"])
            and all(true(each, line, left) for each in when.get("all", []))
            and (not some or any(true(each, line, left) for each in some))
            and not any(true(each, line, left) for each in when.get("not", []))
        )

    def alone(rule: Json, left: int, over: int) -> Fraction:
        """What a rule gives for a line; once for the order, for its part of what is left `over` all its lines."""
        if rule["kind"] == "flat" and rule.get("per") == "order":
            return Fraction(min(of(rule["amounts"], currency, 0), over) * left, over or 1)
        percent = rule["kind"] == "percent"
        exact = left * Fraction(rule["rate"]) / 100 if percent else Fraction(of(rule["amounts"], currency, 0))
        return min(exact, Fraction(left), Fraction(of(rule.get("cap_per_line", []), currency, left)))

    out = [any(true(each, line, left) for each in terms.get("exclude", [])) for line, left in nets]
    given = [Fraction(0)] * len(nets)
    spoken = [False] * len(nets)
    agents: list[Json | None] = [None] * len(nets)
    for component in dict.fromkeys(rule.get("component", "base") for rule in terms["rules"]):
        rules = [(n, rule) for n, rule in enumerate(terms["rules"]) if rule.get("component", "base") == component]
        over = {
            n: sum(left for (line, left), no in zip(nets, out, strict=True) if not no and speaks(rule, line, left))
            for n, rule in rules
        }
        won: dict[int, list[int]] = defaultdict(list)
        for place, (line, left) in enumerate(nets):
            ranked = sorted(
                (
                    PLANS.index(rule.get("plan", "open")),
                    -rule.get("priority", -n),
                    -alone(rule, left, over[n]),
                    (rule.get("agent") or {}).get("approved_at", NEVER),
                    n,
                )
                for n, rule in rules
                if not out[place] and speaks(rule, line, left)
            )
            if ranked:
                spoken[place] = True
                won[ranked[0][-1]].append(place)
                agents[place] = agents[place] or fee_of([terms["rules"][each[-1]] for each in ranked])
        for n, places in won.items():
            rule, lefts = terms["rules"][n], [nets[place][1] for place in places]
            once = rule["kind"] == "flat" and rule.get("per") == "order"
            amount = min(of(rule["amounts"], currency, 0), sum(lefts)) if once else 0
            for place, left, part in zip(places, lefts, dealt(amount, lefts), strict=True):
                given[place] += part if once else alone(rule, left, 0)
    none: Json = {"payee_id": None, "fee": "0"}
    return [
        Share(left, min(exact, Fraction(left)), paid, agent["payee_id"], left * Fraction(agent["fee"]) / 100)
        for exact, paid, agent, (_, left) in zip(given, spoken, (each or none for each in agents), nets, strict=True)
    ]


def fee_of(ranked: list[Json]) -> Json | None:
    """Whose fee is on top: that of an exclusive rule that counts, else of the first open rule that names an agent."""
    if ranked[0].get("plan") == "exclusive":
        agent: Json | None = ranked[0].get("agent")
        return agent
    return next((each["agent"] for each in ranked if each.get("plan", "open") == "open" and "agent" in each), None)


def rounded(exact: Fraction) -> int:
    """Half up, of what is never below zero."""
    return int(exact + Fraction(1, 2))


def technical(terms: Json) -> tuple[str, Fraction]:
    fee = terms.get("technical_fee")
    return (fee["payee_id"], Fraction(fee["rate"]) / 100) if fee else ("", Fraction(0))


def worth(terms: Json, found: list[Share], currency: str) -> int:
    """What one version gives the affiliate: each line rounded once, the cap, less the technical fee, rounded once."""
    total = sum(rounded(share.exact) for share in found)
    capped = min(total, of(terms["cap_per_order"], currency, total))
    return capped - rounded(capped * technical(terms)[1])


# Payees.


def parts(claim: Claim, share: Share) -> list[Part]:
    """The parts of one line: affiliate, agency, fees on top, each followed by the technical fee out of it."""
    if not share.paid:
        return []
    agency = claim.agency or {"payee": "", "share": "0", "fee": "0"}
    own = Fraction(agency["share"]) / 100 * share.exact
    fee = min(Fraction(agency["fee"]) / 100 * share.left, share.left - share.exact)
    found = [Part(claim.affiliate, share.exact - own, on_top=False)]
    found += [Part(agency["payee"], own, on_top=False)] if Fraction(agency["share"]) else []
    found += [Part(agency["payee"], fee, on_top=True)] if Fraction(agency["fee"]) else []
    if share.agent and agency["payee"] in {"", share.agent}:
        found.append(Part(share.agent, min(share.fee, share.left - share.exact - fee), on_top=True))
    operator, rate = technical(claim.terms)
    return [
        Part(payee, exact * part * claim.weight, on_top)
        for who, exact, on_top in found
        for payee, part in ((who, 1 - rate), *([(operator, rate)] if rate else []))
    ]


def divided(claims: list[Claim], currency: str) -> list[dict[str, int]]:
    """What each payee has by each claim: lines rounded once over all claims, then each claim's part of the cap."""
    told = [[parts(claim, share) for share in claim.shares] for claim in claims]
    paid: list[list[tuple[Part, int]]] = [[] for _ in claims]
    for line in zip(*told, strict=True):
        flat = [(number, part) for number, each in enumerate(line) for part in each]
        exact = [part.exact for _, part in flat]
        for (number, part), amount in zip(flat, dealt(rounded(sum(exact, Fraction(0))), exact), strict=True):
            paid[number].append((part, amount))
    result = []
    for claim, own in zip(claims, paid, strict=True):
        below = [0 if part.on_top else amount for part, amount in own]
        cap = of(claim.terms["cap_per_order"], currency, -1)
        if cap >= 0 and sum(below) > int(cap * claim.weight):
            below = dealt(int(cap * claim.weight), below)
        amounts = {claim.affiliate: 0}
        for (part, amount), capped in zip(own, below, strict=True):
            amounts[part.payee] = amounts.get(part.payee, 0) + (amount if part.on_top else capped)
        result.append(amounts)
    return result


# Periods.


class Total(NamedTuple):
    """What some commissions of a period come to."""

    money: int = 0
    sales: int = 0
    orders: int = 0


def first_day(rule: Json, placed_at: datetime, zone: tzinfo) -> date | None:
    """Of the rule's period that an order placed then is in."""
    day = placed_at.astimezone(zone).date()
    if rule["first_day"] and day < date.fromisoformat(rule["first_day"]):
        return None
    if rule["last_day"] and day > date.fromisoformat(rule["last_day"]):
        return None
    return {"day": day, "month": day.replace(day=1)}.get(rule["period"]) or date.fromisoformat(rule["first_day"])


def periods(
    versions: History[Json], placed_at: datetime, joined: Callable[[datetime], datetime | None], zone: tzinfo
) -> Iterator[tuple[str, date, list[Json]]]:
    """The periods that an order counts in: key, first day, and the rules of which at each sum the best one gives.

    versions: begun by then, oldest first. A key has the same period in all of them. joined: since when in the programme.
    """
    ends = [since for since, _ in versions[1:]]
    for key in dict.fromkeys(rule["key"] for _, terms in versions for rule in terms.get("periods", [])):
        own = [
            (since, until, terms["notice_days"], rule)
            for (since, terms), until in zip(versions, [*ends, None], strict=True)
            for rule in terms.get("periods", [])
            if rule["key"] == key
        ]
        begins_on = first_day(own[0][-1], placed_at, zone)
        if begins_on is None:
            continue
        began = datetime(begins_on.year, begins_on.month, begins_on.day, tzinfo=zone)
        since_when = joined(began)
        kept = [rule for _, until, _, rule in own if until is None or until > began][:1]
        if kept:
            kept += [
                rule
                for _, until, notice, rule in own
                if until and since_when and since_when < until <= began < until + timedelta(days=notice)
            ]
            yield key, begins_on, kept


def gives(rules: list[Json], total: Total, currency: str) -> int:
    return max(_gives(rule, total, currency) for rule in rules)


def _gives(rule: Json, total: Total, currency: str) -> int:
    match rule["kind"]:
        case "cap":
            return min(total.money, of(rule["amounts"], currency, total.money)) - total.money
        case "milestones":
            reached = [
                mark
                for mark in rule["marks"]
                if (total.orders >= mark["orders"] if mark.get("orders") else False)
                or (mark.get("sales") and 0 <= of(mark["sales"], currency, -1) <= total.sales)
            ]
            return sum(of(mark["pays"], currency, 0) for mark in reached)
    starts = [(of(step["from"], currency, -1), Fraction(step["rate"]) / 100) for step in rule["steps"]]
    reached = [(start, rate) for start, rate in starts if 0 <= start <= total.sales]
    if not reached or rule["scale"] == "retroactive":
        return rounded(total.sales * reached[-1][1]) if reached else 0
    ends = [start for start, _ in reached[1:]] + [total.sales]
    return rounded(sum(((end - start) * rate for (start, rate), end in zip(reached, ends, strict=True)), Fraction(0)))
