"""One order's books in memory: what the service does with facts, without a database."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from service.domain.assessment import Assessment, assess
from service.domain.commission import Places, difference, settle_move, settleable
from service.domain.customer import History
from service.domain.dated import DatedInputs
from service.domain.order import Fact, FactKind, OrderFacts, merge
from tests.domain.builders import merged


@dataclass
class Books:
    """One order as the service keeps it: facts as rows, commissions by payee and currency, stored identity matches."""

    inputs: DatedInputs
    rows: dict[tuple[FactKind, str], Fact] = field(default_factory=dict)
    places: dict[tuple[UUID, str], Places] = field(default_factory=dict)
    identities: dict[str, bool] = field(default_factory=dict)

    def receive(self, batch: Iterable[Fact]) -> Assessment:
        """What one unit of work does: merge the batch, merge it into the rows, assess, move the difference."""
        self.merge(batch)
        return self.assess()

    def merge(self, batch: Iterable[Fact]) -> None:
        for key, fact in merged(batch).items():
            known = self.rows.get(key)
            winner = fact if known is None else merge(known, fact)
            if winner is not known:
                self.rows[key] = _as_read_back(winner)

    @property
    def facts(self) -> OrderFacts:
        return OrderFacts.of(self.rows.values())

    def assess(self, history: History | None = None) -> Assessment:
        """history: what the customer's other orders say, where somebody knows them."""
        outcome = assess(self.facts, self.inputs, identities=self.identities, known=self.places, history=history)
        self.identities = dict(outcome.attribution.identities)
        for target in outcome.targets:
            now = self.places.get((target.payee_id, target.currency), Places())
            moves = difference(
                now,
                target_minor=target.target_minor,
                frozen=outcome.frozen is not None,
                freezable_minor=now.settled_minor,
            )
            then = now.after(moves)
            assert then.posted_minor == target.target_minor
            assert min(then.pending_minor, then.held_minor, then.settled_minor) >= 0
            assert not (then.pending_minor if outcome.frozen else then.held_minor)
            self.places[target.payee_id, target.currency] = then
        assert set(self.places) == {(target.payee_id, target.currency) for target in outcome.targets}
        return outcome

    def settle(self, outcome: Assessment) -> None:
        """What the settle job does once every clock has run out."""
        for target in outcome.targets:
            now = self.places[target.payee_id, target.currency]
            if outcome.frozen is None and target.settles_at is not None:
                amount = settleable(now, approved_minor=target.approved_minor)
                self.places[target.payee_id, target.currency] = now.after([settle_move(amount)] if amount else [])


def _as_read_back(fact: Fact) -> Fact:
    text = fact.text or json.dumps(fact.body.as_json())
    return Fact.stored(
        kind=str(fact.kind),
        key=fact.key,
        version_at=fact.version_at,
        version_amount=fact.version_amount,
        payload=json.loads(text),
        body_hash=fact.body_hash,
        conflicting=fact.conflicting,
        provisional=fact.provisional,
    )
