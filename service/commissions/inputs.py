"""Dated inputs of merchants, as far as a batch of orders asks for them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from sqlmodel import Session

from service.domain.dated import DatedInputs, Owner, Since, Traceable
from service.domain.identity import identified
from service.domain.order import OrderFacts, TouchKind
from service.domain.program import ProgramVersion, Terms
from service.infra.db import fetch

_Pair = tuple[UUID, UUID]

TERMS_KEPT_MAX = 4096
_terms: dict[tuple[UUID, UUID, int], Terms] = {}
"""Versions already read; they never change, so they never go stale."""


def load(session: Session, orders: Mapping[_Pair, OrderFacts]) -> dict[UUID, DatedInputs]:
    """Everything that orders, given by (merchant, order), may depend on; merchants kept apart."""
    inputs: dict[UUID, DatedInputs] = {merchant_id: DatedInputs() for merchant_id, _ in orders}
    links: set[_Pair] = set()
    coupons: set[tuple[UUID, str]] = set()
    affiliates: set[_Pair] = set()
    for (merchant_id, _), facts in orders.items():
        for touch in facts.snapshot.touches if facts.snapshot else ():
            if touch.kind is TouchKind.COUPON:
                coupons.add((merchant_id, touch.ref))
            elif touch.link_id is not None:
                links.add((merchant_id, touch.link_id))
        decided = facts.decisions.get("attribute")
        if decided is not None and decided.payee_id is not None:
            affiliates.add((merchant_id, decided.payee_id))
    _load_links(session, links, inputs)
    _load_coupons(session, coupons, inputs)
    for merchant_id, each in inputs.items():
        for traceable in (*each.links.values(), *each.coupons.values()):
            affiliates.update((merchant_id, owner.affiliate_id) for owner in traceable.owners)
    if affiliates:
        _load_affiliates(session, affiliates, inputs)
        _load_versions(session, inputs)
    return inputs


def _load_links(session: Session, links: set[_Pair], inputs: dict[UUID, DatedInputs]) -> None:
    if not links:
        return
    asked = sorted(links)
    rows = fetch(
        session,
        """
        SELECT link.merchant_id, link.id, link.program_id, link_owner.valid_from, link_owner.affiliate_id
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:ids AS uuid[])) AS asked (merchant_id, id)
        JOIN link ON link.merchant_id = asked.merchant_id AND link.id = asked.id
        JOIN link_owner ON link_owner.merchant_id = link.merchant_id AND link_owner.link_id = link.id
        ORDER BY link_owner.valid_from
        """,
        {"merchant_ids": [each for each, _ in asked], "ids": [each for _, each in asked]},
    )
    owners: dict[tuple[UUID, UUID, UUID], list[Owner]] = defaultdict(list)
    for row in rows:
        owners[row.merchant_id, row.id, row.program_id].append(Owner(row.valid_from, row.affiliate_id))
    for (merchant_id, link_id, program_id), each in owners.items():
        inputs[merchant_id].links[link_id] = Traceable(link_id, program_id, tuple(each))


def _load_coupons(session: Session, coupons: set[tuple[UUID, str]], inputs: dict[UUID, DatedInputs]) -> None:
    if not coupons:
        return
    asked = sorted(coupons)
    rows = fetch(
        session,
        """
        SELECT coupon.merchant_id, coupon.id, coupon.folded, coupon.program_id, coupon_owner.valid_from,
               coupon_owner.affiliate_id
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:codes AS text[])) AS asked (merchant_id, folded)
        JOIN coupon ON coupon.merchant_id = asked.merchant_id AND coupon.folded = asked.folded
        JOIN coupon_owner ON coupon_owner.merchant_id = coupon.merchant_id AND coupon_owner.coupon_id = coupon.id
        ORDER BY coupon_owner.valid_from
        """,
        {"merchant_ids": [each for each, _ in asked], "codes": [each for _, each in asked]},
    )
    owners: dict[tuple[UUID, str, UUID, UUID], list[Owner]] = defaultdict(list)
    for row in rows:
        owners[row.merchant_id, row.folded, row.id, row.program_id].append(Owner(row.valid_from, row.affiliate_id))
    for (merchant_id, code, coupon_id, program_id), each in owners.items():
        inputs[merchant_id].coupons[code] = Traceable(coupon_id, program_id, tuple(each))


def _load_affiliates(session: Session, affiliates: set[_Pair], inputs: dict[UUID, DatedInputs]) -> None:
    asked = sorted(affiliates)
    # One statement for three dated lists of the same affiliates; `program_id` is null where the list has none.
    rows = fetch(
        session,
        """
        WITH asked AS (
            SELECT * FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:ids AS uuid[])) AS asked (merchant_id, id)
        )
        SELECT enrollment.merchant_id, affiliate_id, program_id, valid_from, enrolled AS holds,
               CAST(NULL AS jsonb) AS identities
        FROM asked JOIN enrollment ON enrollment.merchant_id = asked.merchant_id AND affiliate_id = asked.id
        UNION ALL
        SELECT affiliate_approval.merchant_id, affiliate_id, NULL, valid_from, approved, NULL
        FROM asked JOIN affiliate_approval
          ON affiliate_approval.merchant_id = asked.merchant_id AND affiliate_id = asked.id
        UNION ALL
        SELECT affiliate.merchant_id, affiliate.id, NULL, NULL, NULL, identities
        FROM asked JOIN affiliate ON affiliate.merchant_id = asked.merchant_id AND affiliate.id = asked.id
        ORDER BY valid_from
        """,
        {"merchant_ids": [each for each, _ in asked], "ids": [each for _, each in asked]},
    )
    enrollments: dict[UUID, dict[_Pair, list[Since]]] = defaultdict(lambda: defaultdict(list))
    approvals: dict[UUID, dict[UUID, list[Since]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.identities is not None:
            inputs[row.merchant_id].identities[row.affiliate_id] = identified(row.identities)
        elif row.program_id is not None:
            enrollments[row.merchant_id][row.program_id, row.affiliate_id].append(Since(row.valid_from, row.holds))
        else:
            approvals[row.merchant_id][row.affiliate_id].append(Since(row.valid_from, row.holds))
    for merchant_id, by_pair in enrollments.items():
        inputs[merchant_id].enrollments = {pair: tuple(each) for pair, each in by_pair.items()}
    for merchant_id, by_affiliate in approvals.items():
        inputs[merchant_id].approvals = {affiliate_id: tuple(each) for affiliate_id, each in by_affiliate.items()}


def _load_versions(session: Session, inputs: dict[UUID, DatedInputs]) -> None:
    programs = {
        (merchant_id, program_id)
        for merchant_id, each in inputs.items()
        for program_id in (
            *(traceable.program_id for traceable in (*each.links.values(), *each.coupons.values())),
            *(program_id for program_id, _ in each.enrollments),
        )
    }
    asked = sorted(programs)
    rows = fetch(
        session,
        """
        SELECT version.merchant_id, version.program_id, number, valid_from, merchant.time_zone
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:program_ids AS uuid[])) AS asked (merchant_id, program_id)
        JOIN program_version AS version
          ON version.merchant_id = asked.merchant_id AND version.program_id = asked.program_id
        JOIN merchant ON merchant.id = version.merchant_id
        ORDER BY version.merchant_id, version.program_id, number
        """,
        {"merchant_ids": [each for each, _ in asked], "program_ids": [each for _, each in asked]},
    )
    for row in rows:
        inputs[row.merchant_id].time_zone = row.time_zone
    begins: dict[tuple[UUID, UUID, int], datetime] = {
        (row.merchant_id, row.program_id, row.number): row.valid_from for row in rows
    }
    terms = _terms_of(session, begins)
    versions: dict[_Pair, list[ProgramVersion]] = defaultdict(list)
    for (merchant_id, program_id, number), valid_from in begins.items():
        versions[merchant_id, program_id].append(
            ProgramVersion(program_id, number, valid_from, terms[merchant_id, program_id, number])
        )
    for (merchant_id, program_id), each in versions.items():
        inputs[merchant_id].versions[program_id] = tuple(sorted(each, key=lambda version: version.valid_from))


def _terms_of(session: Session, wanted: Iterable[tuple[UUID, UUID, int]]) -> dict[tuple[UUID, UUID, int], Terms]:
    found = {key: _terms[key] for key in wanted if key in _terms}
    unread = sorted(set(wanted) - set(found))
    if unread:
        rows = fetch(
            session,
            """
            SELECT version.merchant_id, version.program_id, version.number, terms
            FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:program_ids AS uuid[]), CAST(:numbers AS integer[]))
                 AS asked (merchant_id, program_id, number)
            JOIN program_version AS version
              ON version.merchant_id = asked.merchant_id AND version.program_id = asked.program_id
             AND version.number = asked.number
            """,
            {
                "merchant_ids": [each for each, _, _ in unread],
                "program_ids": [each for _, each, _ in unread],
                "numbers": [each for _, _, each in unread],
            },
        )
        read = {(row.merchant_id, row.program_id, row.number): Terms.of_json(row.terms) for row in rows}
        found |= read
        if len(_terms) + len(read) > TERMS_KEPT_MAX:
            _terms.clear()
        _terms.update(read)
    return found
