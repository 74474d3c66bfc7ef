"""What merchants are sent: the payload of each type of event, and their place in the API's description."""

from collections.abc import Mapping
from typing import Any

from service.api.term_changes import ChangeView
from service.api.views import (
    AffiliateId,
    BudgetId,
    ClaimId,
    CommissionId,
    CorrectionId,
    Day,
    EnrollmentId,
    InboxId,
    Moment,
    OrderId,
    PayoutFileId,
    PayoutId,
    PayoutMethodId,
    ProgramId,
    RunId,
    SourceId,
    StatementId,
    View,
    WebhookEndpointId,
)
from service.domain.budget import AtLimit
from service.domain.claim import ClaimKind, ClaimOutcome
from service.domain.correction import CorrectionKind
from service.domain.delivery import DisabledReason
from service.domain.destination import AccountType
from service.domain.events import EventType
from service.domain.payout_file import FileState

Json = dict[str, Any]


class OrderAttributedData(View):
    order_id: OrderId
    affiliate_id: AffiliateId
    program_id: ProgramId | None
    """The programme through which it was brought; null where a person credited somebody who is in none."""
    reason_code: str


class OrderUnattributedData(View):
    order_id: OrderId
    reason_code: str


class CommissionPeriod(View):
    """The period of a rule that a commission is for."""

    rule: str
    begins_on: Day


class CommissionData(View):
    """How a commission stands after the change; amounts in minor units of the currency."""

    commission_id: CommissionId
    order_id: OrderId | None
    """Null where it is for a period."""
    period: CommissionPeriod | None = None
    affiliate_id: AffiliateId
    currency: str
    target_minor: int
    """What the affiliate earns on the order, or for the period; below zero where a cap takes back."""
    pending_minor: int
    held_minor: int
    settled_minor: int
    """What has become payable so far, paid out or not."""
    approved_minor: int | None
    """The most that may become payable; null while nobody has approved and nobody has to."""
    reason_code: str


class CommissionPayableData(View):
    commission_id: CommissionId
    order_id: OrderId
    affiliate_id: AffiliateId
    currency: str
    settled_minor: int
    """What has become payable so far."""
    pending_minor: int
    """What is still to come, above what was approved."""


class CommissionPaidData(View):
    """A payout with all the commissions it covers, however many."""

    payout_id: PayoutId
    payout_run_id: RunId
    affiliate_id: AffiliateId
    currency: str
    gross_minor: int
    """Commissions less what was taken back since the payout before."""
    net_minor: int
    """What was sent."""
    statement_path: str
    """Where each commission that is covered is listed."""


class ClaimData(View):
    claim_id: ClaimId
    affiliate_id: AffiliateId
    kind: ClaimKind
    order_id: OrderId | None
    """Null while no such order has come."""
    decide_by: Moment
    """When somebody should have decided."""


class ClaimDecidedData(ClaimData):
    outcome: ClaimOutcome
    reason_code: str
    commission_id: CommissionId | None
    """What an accepted claim earns; null of a rejected one."""


class PayoutRunData(View):
    payout_run_id: RunId
    rail: str
    currency: str
    status: str


class PayoutRunItemsData(PayoutRunData):
    items: int
    """Payouts in it."""


class PayoutRunSubmittedData(PayoutRunData):
    content_hash: str
    """Over all that is to be approved."""


class PayoutRunStoppedData(PayoutRunData):
    reason_code: str


class PayoutRunCancelledData(PayoutRunData):
    released: int
    """Payouts that gave their money back."""


class PayoutFileData(View):
    payout_file_id: PayoutFileId
    payout_run_id: RunId
    number: int
    """Of the run's files, from 1."""
    rail: str
    currency: str
    status: FileState
    lines: int
    control_sum_minor: int
    pays_on: Day
    """The day it is for; it is handed over on no later one."""


class PayoutData(View):
    payout_id: PayoutId
    payout_run_id: RunId
    affiliate_id: AffiliateId
    currency: str
    net_minor: int


class PayoutSentData(PayoutData):
    reference: str
    """The rail's own id of it."""


class PayoutReasonData(PayoutData):
    reason_code: str


class PayoutAmountData(PayoutData):
    amount_minor: int
    """What it is about; of a reversal or return, all that came back so far."""


class CorrectionData(View):
    correction_id: CorrectionId
    affiliate_id: AffiliateId
    kind: CorrectionKind
    currency: str
    amount_minor: int
    reason: str


class StatementData(View):
    statement_id: StatementId
    number: str
    affiliate_id: AffiliateId
    currency: str
    begins_on: Day
    ends_on: Day


class StatementIssuedData(StatementData):
    closing_minor: int
    """What is owed to the affiliate after its last day."""
    provisional: bool
    """Its days were not sealed yet."""
    self_billed: bool
    answer_by: Day
    """Last day to object."""
    digest: str
    """Whoever keeps it can tell later that the statement is still the same."""
    replaces_id: StatementId | None
    """The provisional one whose place it takes: something was booked on its days since."""


class AffiliateAppliedData(View):
    affiliate_id: AffiliateId
    external_id: str | None
    """The merchant's own id of it."""


class AffiliateDecidedData(View):
    affiliate_id: AffiliateId
    reason_code: str | None
    valid_from: Moment


class AffiliateEnrollmentData(View):
    affiliate_id: AffiliateId
    program_id: ProgramId
    enrollment_id: EnrollmentId
    valid_from: Moment


class PayoutMethodData(View):
    """Accounts and addresses are masked: enough to recognise them, not to use them."""

    payout_method_id: PayoutMethodId
    affiliate_id: AffiliateId
    rail: str
    kind: AccountType
    """What kind of account it is."""
    destination_hint: str
    previous_hint: str | None
    """The account before, or that is active again; null where there is none."""
    usable_from: Moment | None
    """When it is paid to; null: at once, or never where it was cancelled."""
    by_affiliate: bool
    """Whether the affiliate's own key did it."""
    email_hint: str | None
    """The affiliate's e-mail address in your books."""


class PayoutMethodSharedData(View):
    payout_method_id: PayoutMethodId
    affiliate_id: AffiliateId
    rail: str
    destination_hint: str
    shared_with: int
    """How many other affiliates have this account."""


class StripeAccountData(View):
    affiliate_id: AffiliateId
    account_id: str
    """At Stripe."""


class StripeAccountPayoutFailedData(StripeAccountData):
    amount_minor: int
    currency: str
    reason_code: str
    """Stripe's word."""


class ProgramVersionPublishedData(View):
    program_id: ProgramId
    number: int
    valid_from: Moment
    follows: int | None
    """The version whose place it takes then; null for the first to begin."""
    notice_days: int
    """How long affiliates enrolled before keep the terms of that version where those give more."""
    reaches_all_at: Moment
    """From then on no terms before it that may give more count for anybody."""
    may_be_cut: bool
    """False: it surely gives every affiliate at least as much, no later. True: it may not."""
    changes: list[ChangeView] | None
    """What is other than in the version it follows; null where that is too long for a message, or there is none."""
    diff_path: str | None
    """Where the changes can be read, however long; null where it follows none."""


class BudgetData(View):
    """How a budget stands; amounts in minor units of the currency."""

    budget_id: BudgetId
    program_id: ProgramId
    currency: str
    limit_minor: int
    used_minor: int
    at_limit: AtLimit


class BudgetReachedData(BudgetData):
    paused_from: Moment | None
    """Null: the budget only tells, or the programme was paused already."""


class BudgetReopenedData(BudgetData):
    runs_from: Moment | None
    """Null: something else keeps it paused, or nothing did."""


class InboxParkedData(View):
    inbox_id: InboxId
    source_id: SourceId
    reason_code: str


class WebhookEndpointDisabledData(View):
    webhook_endpoint_id: WebhookEndpointId
    reason_code: DisabledReason


class WebhookEndpointPingData(View):
    webhook_endpoint_id: WebhookEndpointId


DATA: Mapping[EventType, type[View]] = {
    EventType.ORDER_ATTRIBUTED: OrderAttributedData,
    EventType.ORDER_UNATTRIBUTED: OrderUnattributedData,
    EventType.COMMISSION_ACCRUED: CommissionData,
    EventType.COMMISSION_ADJUSTED: CommissionData,
    EventType.COMMISSION_REVERSED: CommissionData,
    EventType.COMMISSION_HELD: CommissionData,
    EventType.COMMISSION_RELEASED: CommissionData,
    EventType.COMMISSION_APPROVED: CommissionData,
    EventType.COMMISSION_REJECTED: CommissionData,
    EventType.COMMISSION_PAYABLE: CommissionPayableData,
    EventType.COMMISSION_PAID: CommissionPaidData,
    EventType.CLAIM_OPENED: ClaimData,
    EventType.CLAIM_DECIDED: ClaimDecidedData,
    EventType.CLAIM_OVERDUE: ClaimData,
    EventType.PAYOUT_RUN_CREATED: PayoutRunItemsData,
    EventType.PAYOUT_RUN_SUBMITTED: PayoutRunSubmittedData,
    EventType.PAYOUT_RUN_APPROVED: PayoutRunItemsData,
    EventType.PAYOUT_RUN_EXECUTING: PayoutRunData,
    EventType.PAYOUT_RUN_STOPPED: PayoutRunStoppedData,
    EventType.PAYOUT_RUN_CLOSED: PayoutRunData,
    EventType.PAYOUT_RUN_CANCELLED: PayoutRunCancelledData,
    EventType.PAYOUT_FILE_BUILT: PayoutFileData,
    EventType.PAYOUT_FILE_HANDED_OVER: PayoutFileData,
    EventType.PAYOUT_FILE_VOIDED: PayoutFileData,
    EventType.PAYOUT_SENT: PayoutSentData,
    EventType.PAYOUT_SETTLED: PayoutAmountData,
    EventType.PAYOUT_REFUSED: PayoutReasonData,
    EventType.PAYOUT_ABSENT: PayoutReasonData,
    EventType.PAYOUT_RELEASED: PayoutReasonData,
    EventType.PAYOUT_REVERSED: PayoutAmountData,
    EventType.PAYOUT_RETURNED: PayoutAmountData,
    EventType.PAYOUT_FAILED: PayoutAmountData,
    EventType.CORRECTION_ASKED: CorrectionData,
    EventType.CORRECTION_BOOKED: CorrectionData,
    EventType.CORRECTION_WITHDRAWN: CorrectionData,
    EventType.STATEMENT_ISSUED: StatementIssuedData,
    EventType.STATEMENT_ACCEPTED: StatementData,
    EventType.STATEMENT_OBJECTED: StatementData,
    EventType.AFFILIATE_APPLIED: AffiliateAppliedData,
    EventType.AFFILIATE_APPROVED: AffiliateDecidedData,
    EventType.AFFILIATE_REJECTED: AffiliateDecidedData,
    EventType.AFFILIATE_SUSPENDED: AffiliateDecidedData,
    EventType.AFFILIATE_ENROLLED: AffiliateEnrollmentData,
    EventType.AFFILIATE_UNENROLLED: AffiliateEnrollmentData,
    EventType.PAYOUT_METHOD_ADDED: PayoutMethodData,
    EventType.PAYOUT_METHOD_CHANGED: PayoutMethodData,
    EventType.PAYOUT_METHOD_CANCELLED: PayoutMethodData,
    EventType.PAYOUT_METHOD_SHARED: PayoutMethodSharedData,
    EventType.STRIPE_ACCOUNT_READY: StripeAccountData,
    EventType.STRIPE_ACCOUNT_NOT_READY: StripeAccountData,
    EventType.STRIPE_ACCOUNT_PAYOUT_FAILED: StripeAccountPayoutFailedData,
    EventType.PROGRAM_VERSION_PUBLISHED: ProgramVersionPublishedData,
    EventType.BUDGET_NEAR: BudgetData,
    EventType.BUDGET_REACHED: BudgetReachedData,
    EventType.BUDGET_REOPENED: BudgetReopenedData,
    EventType.INBOX_PARKED: InboxParkedData,
    EventType.WEBHOOK_ENDPOINT_DISABLED: WebhookEndpointDisabledData,
    EventType.WEBHOOK_ENDPOINT_PING: WebhookEndpointPingData,
}
"""What is under `data` of a message, by its type."""

_HEADERS = (
    ("webhook-id", "The event's id. The same at every try and replay: who has seen it has seen the event."),
    ("webhook-timestamp", "When this try was made, in whole seconds since 1970."),
    ("webhook-signature", "`v1,` and base64; two with a blank between them while a secret is being replaced."),
)


def schemas() -> dict[str, Json]:
    """The payloads by the names under which messages refer to them."""
    made: dict[str, Json] = {}
    for view in dict.fromkeys(DATA.values()):
        shape = view.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
        # Payloads gain fields with time, and who receives them must let those be.
        shape.pop("additionalProperties", None)
        made |= shape.pop("$defs", {}) | {view.__name__: shape}
    return made


def webhooks() -> Json:
    """The section `webhooks` of the description: one message for each type."""
    return {type_.value: {"post": _operation(type_)} for type_ in EventType}


def _operation(type_: EventType) -> Json:
    return {
        "tags": ["webhook endpoints"],
        "summary": " ".join(type_.replace(".", "_").split("_")).capitalize(),
        "description": type_.meaning,
        "operationId": f"on_{type_.replace('.', '_')}",
        "security": [],
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
            for name, text in _HEADERS
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _message(type_)}}},
        "responses": {
            "2XX": {"description": "Taken. The body is not read."},
            "410": {"description": "Nothing more, ever: the endpoint is disabled."},
            "429": {"description": "Later; Retry-After is kept, up to an hour."},
            "4XX": {"description": "Not taken; it is sent again."},
            "5XX": {"description": "Not taken; it is sent again. After 503, Retry-After is kept, up to an hour."},
        },
    }


def _message(type_: EventType) -> Json:
    return {
        "type": "object",
        "required": ["id", "type", "timestamp", "data"],
        "properties": {
            "id": {
                "type": "string",
                "pattern": "^evt_[0-7][0-9a-hjkmnp-tv-z]{25}$",
                "description": "The event's id, also of GET /v1/events/{event_id}.",
            },
            "type": {"type": "string", "const": type_.value},
            "timestamp": {
                "type": "string",
                "format": "date-time",
                "description": "When it happened, by the merchant's clock.",
            },
            "data": {"$ref": f"#/components/schemas/{DATA[type_].__name__}"},
        },
    }
