"""Dated inputs of merchants, as far as a batch of orders asks for them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from sqlmodel import Session

from service.commissions import inputs_named
from service.domain.customer import History
from service.domain.dated import DatedInputs, Membership, Pause, PauseEffect, Since
from service.domain.identity import identified
from service.domain.marks import Grade
from service.domain.order import OrderFacts
from service.domain.program import ProgramVersion, Terms
from service.domain.written import rate_of
from service.infra.db import fetch

_Pair = tuple[UUID, UUID]

TERMS_KEPT_MAX = 4096
_terms: dict[tuple[UUID, UUID, int], Terms] = {}
"""Versions already read; they never change, so they never go stale."""


def load(session: Session, orders: Mapping[_Pair, OrderFacts]) -> dict[UUID, DatedInputs]:
    """Everything that orders, given by (merchant, order), may depend on; merchants kept apart."""
    inputs: dict[UUID, DatedInputs] = {merchant_id: DatedInputs() for merchant_id, _ in orders}
    inputs_named.load(session, orders, inputs)
    affiliates: set[_Pair] = set()
    for (merchant_id, _), facts in orders.items():
        decided = facts.decisions.get("attribute")
        if decided is not None and decided.payee_id is not None:
            affiliates.add((merchant_id, decided.payee_id))
    for merchant_id, each in inputs.items():
        for traceable in (*each.links.values(), *each.coupons.values()):
            affiliates.update((merchant_id, owner.affiliate_id) for owner in traceable.owners)
        for binding in inputs_named.bindings_of(each):
            if binding.affiliate_id is not None:
                affiliates.add((merchant_id, binding.affiliate_id))
    if affiliates:
        _load_affiliates(session, affiliates, inputs)
        _load_programs(session, inputs)
    return inputs


def load_credited(session: Session, histories: Mapping[_Pair, History], inputs: dict[UUID, DatedInputs]) -> None:
    """Fill in the affiliates who brought what orders, given by (merchant, order), may place again: no order names them."""
    affiliates = {
        (merchant_id, gone.affiliate_id)
        for (merchant_id, _), history in histories.items()
        for gone in history.abandoned
        if gone.affiliate_id not in inputs[merchant_id].approvals
    }
    if affiliates:
        _load_affiliates(session, affiliates, inputs)
        _load_programs(session, inputs)


def _load_affiliates(session: Session, affiliates: set[_Pair], inputs: dict[UUID, DatedInputs]) -> None:
    asked = sorted(affiliates)
    # One statement for all that is kept of the same affiliates.
    rows = fetch(
        session,
        """
        WITH asked AS (
            SELECT * FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:ids AS uuid[])) AS asked (merchant_id, id)
        )
        SELECT 'enrollment' AS what, asked.merchant_id, asked.id, program_id AS other_id, valid_from, enrolled AS holds,
               CAST(NULL AS jsonb) AS more
        FROM asked JOIN enrollment ON enrollment.merchant_id = asked.merchant_id AND affiliate_id = asked.id
        UNION ALL
        SELECT 'approval', asked.merchant_id, asked.id, NULL, valid_from, approved, NULL
        FROM asked JOIN affiliate_approval
          ON affiliate_approval.merchant_id = asked.merchant_id AND affiliate_id = asked.id
        UNION ALL
        SELECT 'identities', asked.merchant_id, asked.id, NULL, NULL, NULL, identities
        FROM asked JOIN affiliate ON affiliate.merchant_id = asked.merchant_id AND affiliate.id = asked.id
        UNION ALL
        SELECT 'roster', asked.merchant_id, asked.id, agency_id, valid_from, NULL,
               jsonb_build_object('share', share, 'fee', fee)
        FROM asked JOIN roster ON roster.merchant_id = asked.merchant_id AND affiliate_id = asked.id
        UNION ALL
        SELECT 'grade', asked.merchant_id, asked.id, NULL, valid_from, NULL,
               jsonb_build_object('tier', tier, 'groups', groups)
        FROM asked JOIN affiliate_grade ON affiliate_grade.merchant_id = asked.merchant_id AND affiliate_id = asked.id
        ORDER BY valid_from
        """,
        {"merchant_ids": [each for each, _ in asked], "ids": [each for _, each in asked]},
    )
    enrollments: dict[tuple[UUID, _Pair], list[Since]] = defaultdict(list)
    approvals: dict[_Pair, list[Since]] = defaultdict(list)
    rosters: dict[_Pair, list[Membership]] = defaultdict(list)
    grades: dict[_Pair, list[Grade]] = defaultdict(list)
    for row in rows:
        whose = (row.merchant_id, row.id)
        match row.what:
            case "enrollment":
                enrollments[row.merchant_id, (row.other_id, row.id)].append(Since(row.valid_from, row.holds))
            case "approval":
                approvals[whose].append(Since(row.valid_from, row.holds))
            case "identities":
                inputs[row.merchant_id].identities[row.id] = identified(row.more)
            case "roster":
                share, fee = rate_of(row.more["share"]), rate_of(row.more["fee"])
                rosters[whose].append(Membership(row.valid_from, row.other_id, share, fee))
            case "grade":
                grades[whose].append(Grade(row.valid_from, row.more["tier"], frozenset(row.more["groups"])))
    for (merchant_id, joined), states in enrollments.items():
        inputs[merchant_id].enrollments[joined] = tuple(states)
    for (merchant_id, affiliate_id), decided in approvals.items():
        inputs[merchant_id].approvals[affiliate_id] = tuple(decided)
    for (merchant_id, affiliate_id), memberships in rosters.items():
        inputs[merchant_id].roster[affiliate_id] = tuple(memberships)
    for (merchant_id, affiliate_id), graded in grades.items():
        inputs[merchant_id].grades[affiliate_id] = tuple(graded)


def _load_programs(session: Session, inputs: dict[UUID, DatedInputs]) -> None:
    programs = {
        (merchant_id, program_id)
        for merchant_id, each in inputs.items()
        for program_id in (
            *(traceable.program_id for traceable in (*each.links.values(), *each.coupons.values())),
            *(binding.program_id for binding in inputs_named.bindings_of(each)),
            *(program_id for program_id, _ in each.enrollments),
        )
        if program_id is not None
    }
    asked = sorted(programs)
    rows = fetch(
        session,
        """
        WITH asked AS (
            SELECT * FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:program_ids AS uuid[]))
                          AS asked (merchant_id, program_id)
        )
        SELECT asked.merchant_id, asked.program_id, number, valid_from, merchant.time_zone, NULL AS effect
        FROM asked
        JOIN program_version AS version
          ON version.merchant_id = asked.merchant_id AND version.program_id = asked.program_id
        JOIN merchant ON merchant.id = asked.merchant_id
        UNION ALL
        SELECT asked.merchant_id, asked.program_id, NULL, valid_from, NULL, effect
        FROM asked
        JOIN program_pause AS pause ON pause.merchant_id = asked.merchant_id AND pause.program_id = asked.program_id
        ORDER BY merchant_id, program_id, number, valid_from
        """,
        {"merchant_ids": [each for each, _ in asked], "program_ids": [each for _, each in asked]},
    )
    begins: dict[tuple[UUID, UUID, int], datetime] = {}
    pauses: dict[_Pair, list[Pause]] = defaultdict(list)
    for row in rows:
        if row.effect is not None:
            pauses[row.merchant_id, row.program_id].append(Pause(row.valid_from, PauseEffect(row.effect)))
        else:
            inputs[row.merchant_id].time_zone = row.time_zone
            begins[row.merchant_id, row.program_id, row.number] = row.valid_from
    for (merchant_id, program_id), states in pauses.items():
        inputs[merchant_id].pauses[program_id] = tuple(states)
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
