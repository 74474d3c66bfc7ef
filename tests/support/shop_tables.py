"""A shop's dated inputs, as the pure domain takes them, written to the tables of a merchant."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any
from uuid import UUID

from sqlmodel import SQLModel

from service.domain.dated import DatedInputs
from service.domain.identity import stored
from service.domain.written import percent_of
from service.infra.db import unit_of_work
from service.tables.bindings import CustomerBindingRow, CustomerListingRow, ProductBindingRow
from service.tables.parties import AffiliateApprovalRow, AffiliateGradeRow, AffiliateKind, AffiliateRow, RosterRow
from service.tables.programs import (
    CouponOwnerRow,
    CouponRow,
    EnrollmentRow,
    LinkLabelRow,
    LinkOwnerRow,
    LinkRow,
    ProgramPauseRow,
    ProgramRow,
    ProgramVersionRow,
)
from tests.support.books import LONG_AGO, Books


def store_inputs(books: Books, inputs: DatedInputs, *, known: DatedInputs | None = None) -> None:
    """Write what `inputs` has beyond what is `known`, that is written already. Ids are those of the inputs."""
    written = {_name(row) for rows in _rows(books.merchant_id, known or DatedInputs()) for row in rows}
    with unit_of_work(books.engine) as session:
        for rows in _rows(books.merchant_id, inputs):
            session.add_all(row for row in rows if _name(row) not in written)
            # What comes next refers to these.
            session.flush()


def _name(row: SQLModel) -> str:
    return type(row).__name__ + json.dumps(row.model_dump(mode="json"), sort_keys=True)


def _rows(merchant_id: UUID, inputs: DatedInputs) -> Iterator[list[SQLModel]]:
    """Rows in an order in which each finds what it refers to."""
    memberships = [state for states in inputs.roster.values() for state in states]
    terms = [version.terms for versions in inputs.versions.values() for version in versions]
    operators = {each.technical_fee.payee_id for each in terms if each.technical_fee}
    agencies = {state.agency_id for state in memberships if state.agency_id is not None}
    agencies |= frozenset[UUID]().union(*(each.payees for each in terms)) - operators
    yield [
        ProgramRow(merchant_id=merchant_id, id=program_id, name="Friends", created_at=LONG_AGO)
        for program_id in inputs.versions
    ]
    yield [
        AffiliateRow(
            merchant_id=merchant_id,
            id=affiliate_id,
            kind=kind,
            name=f"Affiliate {affiliate_id.int:X}",
            status="approved",
            tax_rule="off",
            identities=stored(inputs.identities.get(affiliate_id, ())),
            created_at=LONG_AGO,
            updated_at=LONG_AGO,
        )
        for kind, whose in (
            (AffiliateKind.KOC, inputs.approvals),
            (AffiliateKind.AGENCY, sorted(agencies)),
            (AffiliateKind.OPERATOR, sorted(operators)),
        )
        for affiliate_id in whose
    ]
    yield [
        ProgramVersionRow(
            merchant_id=merchant_id,
            program_id=version.program_id,
            number=version.number,
            valid_from=version.valid_from,
            terms=version.terms.as_json(),
            asks_about_customers=version.terms.asks_about_customers,
            recorded_at=LONG_AGO,
        )
        for versions in inputs.versions.values()
        for version in versions
    ]
    yield [
        LinkRow(
            merchant_id=merchant_id,
            id=link.id,
            program_id=link.program_id,
            affiliate_id=link.owners[0].affiliate_id,
            code=f"{merchant_id}-{link.id}",
            url="https://shop.test/",
            created_at=LONG_AGO,
            updated_at=LONG_AGO,
        )
        for link in inputs.links.values()
    ]
    yield [
        CouponRow(
            merchant_id=merchant_id,
            id=coupon.id,
            program_id=coupon.program_id,
            code=folded.upper(),
            folded=folded,
            created_at=LONG_AGO,
        )
        for folded, coupon in inputs.coupons.items()
    ]
    yield [
        *(
            LinkOwnerRow(
                merchant_id=merchant_id,
                link_id=link.id,
                valid_from=owner.valid_from,
                affiliate_id=owner.affiliate_id,
                recorded_at=LONG_AGO,
            )
            for link in inputs.links.values()
            for owner in link.owners
        ),
        *(
            LinkLabelRow(
                merchant_id=merchant_id,
                link_id=link.id,
                valid_from=label.valid_from,
                content_type=label.content_type,
                channel=label.channel,
                sub_ids=dict(label.sub_ids),
            )
            for link in inputs.links.values()
            for label in link.labels
        ),
        *(
            CouponOwnerRow(
                merchant_id=merchant_id,
                coupon_id=coupon.id,
                valid_from=owner.valid_from,
                affiliate_id=owner.affiliate_id,
                recorded_at=LONG_AGO,
            )
            for coupon in inputs.coupons.values()
            for owner in coupon.owners
        ),
        *(
            AffiliateApprovalRow(
                merchant_id=merchant_id,
                affiliate_id=affiliate_id,
                valid_from=state.valid_from,
                approved=state.holds,
                recorded_at=LONG_AGO,
            )
            for affiliate_id, states in inputs.approvals.items()
            for state in states
        ),
        *(
            EnrollmentRow(
                merchant_id=merchant_id,
                # An id that says what it is of, so that the same state written again is seen to be the same.
                id=UUID(int=program_id.int << 64 | affiliate_id.int << 32 | number),
                program_id=program_id,
                affiliate_id=affiliate_id,
                valid_from=state.valid_from,
                enrolled=state.holds,
                recorded_at=LONG_AGO,
            )
            for (program_id, affiliate_id), states in inputs.enrollments.items()
            for number, state in enumerate(states)
        ),
    ]
    dated: dict[str, Any] = {"merchant_id": merchant_id, "recorded_at": LONG_AGO}
    yield [
        *(
            RosterRow(
                **dated,
                affiliate_id=affiliate_id,
                valid_from=state.valid_from,
                agency_id=state.agency_id,
                share=percent_of(state.share),
                fee=percent_of(state.fee),
            )
            for affiliate_id, states in inputs.roster.items()
            for state in states
        ),
        *(
            AffiliateGradeRow(
                **dated,
                affiliate_id=affiliate_id,
                valid_from=grade.valid_from,
                tier=grade.tier,
                groups=sorted(grade.groups),
            )
            for affiliate_id, grades in inputs.grades.items()
            for grade in grades
        ),
        *(
            ProgramPauseRow(**dated, program_id=program_id, valid_from=pause.valid_from, effect=pause.effect)
            for program_id, pauses in inputs.pauses.items()
            for pause in pauses
        ),
        *(
            CustomerBindingRow(**dated, kind=kind, hash=hashed, **asdict(binding))
            for (kind, hashed), bindings in inputs.customer_bindings.items()
            for binding in bindings
        ),
        *(
            ProductBindingRow(**dated, sku=sku, **asdict(binding))
            for sku, bindings in inputs.product_bindings.items()
            for binding in bindings
        ),
        *(
            CustomerListingRow(**dated, kind=kind, hash=hashed, **asdict(listing))
            for (kind, hashed), listings in inputs.listings.items()
            for listing in listings
        ),
    ]
