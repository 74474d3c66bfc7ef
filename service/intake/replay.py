"""What becomes of parked deliveries: read again after a fix on our side or the shop's, or put away by a person."""

from collections.abc import Callable, Sequence
from uuid import UUID

from sqlmodel import Session

from service.infra.db import execute, fetch
from service.intake.adapters.model import Delivery, Reading
from service.intake.receive import KnownSource, receive
from service.intake.record import Received, Recorded, apply, unless_ahead
from service.ledger.times import merchant_times
from service.tables.orders import InboxState
from service.tables.parties import Platform

DISMISSED = "dismissed"
"""Reason of what a person put away."""


def dismiss(session: Session, merchant_id: UUID, inbox_ids: Sequence[UUID]) -> list[UUID]:
    """Let parked deliveries need nobody any more, because the shop has sent a better one or they never mattered.

    Returns the ids of those that were parked. They stay whole, keep the detail of why they were not understood, and can
    be replayed.
    """
    rows = fetch(
        session,
        """
        UPDATE inbox SET state = 'ignored', answered = 'ignored', reason_code = :dismissed
        WHERE merchant_id = :merchant_id AND id = ANY(CAST(:ids AS uuid[])) AND state = 'parked'
        RETURNING id
        """,
        {"merchant_id": merchant_id, "ids": sorted(inbox_ids), "dismissed": DISMISSED},
    )
    return [row.id for row in rows]


def replay(
    session: Session, merchant_id: UUID, inbox_ids: Sequence[UUID], reading: Callable[[UUID], Reading]
) -> dict[UUID, Recorded]:
    """Translate parked deliveries again and let what is understood now count. Returns their new answers by inbox id.

    They are read by the settings their source has now. Another shop's delivery stays another shop's.

    Only parked and dismissed rows are touched: what counted once counts already, what waits needs no help. reading: by
    merchant.
    """
    rows = fetch(
        session,
        """
        SELECT inbox.id, inbox.source_id, delivery_id, topic, body, body_hash, grammar, source.platform,
               source.shop_domain AS own_domain,
               -- The release before kept no domain: what it parked as another shop's stays another shop's.
               coalesce(inbox.shop_domain, CASE reason_code WHEN 'other_shop_domain' THEN '?' ELSE '' END) AS shop_domain,
               coalesce(newest.settings, CAST('{}' AS jsonb)) AS settings, coalesce(newest.version, 0) AS version,
               (SELECT is_test FROM merchant WHERE merchant.id = inbox.merchant_id) AS is_test
        FROM inbox JOIN source ON source.id = inbox.source_id
        LEFT JOIN LATERAL (SELECT settings, version FROM source_settings WHERE source_id = source.id
                           ORDER BY version DESC LIMIT 1) AS newest ON true
        WHERE inbox.merchant_id = :merchant_id AND inbox.id = ANY(CAST(:ids AS uuid[]))
          AND (state = 'parked' OR state = 'ignored' AND reason_code = :dismissed)
          AND source.platform <> 'desk'
        ORDER BY inbox.merchant_id, inbox.source_id, delivery_id, body_hash
        FOR UPDATE OF inbox
        """,
        {"merchant_id": merchant_id, "ids": list(inbox_ids), "dismissed": DISMISSED},
    )
    if not rows:
        return {}
    when = merchant_times(session, [merchant_id])
    read: dict[UUID, Received] = {}
    for row in rows:
        source = KnownSource(
            row.source_id,
            merchant_id,
            Platform(row.platform),
            b"",
            row.own_domain,
            settings=row.settings,
            settings_version=row.version,
            is_test=row.is_test,
        )
        delivery = Delivery(row.delivery_id, row.topic, bytes(row.body), row.shop_domain)
        grammar = Platform(row.grammar) if row.grammar else None
        read[row.id] = unless_ahead(receive(source, delivery, reading(merchant_id), grammar), when[merchant_id].now)
    _file_again(session, merchant_id, read)
    understood = [(each, inbox_id) for inbox_id, each in read.items() if each.state is InboxState.APPLIED]
    waiting, order_ids = apply(session, understood, when)
    return {
        inbox_id: Recorded(
            inbox_id,
            InboxState.WAITING if inbox_id in waiting else each.state,
            each.reason_code,
            each.detail,
            each.understood or {},
            order_id=order_ids.get((merchant_id, each.order)) if each.order else None,
        )
        for inbox_id, each in read.items()
    }


def _file_again(session: Session, merchant_id: UUID, read: dict[UUID, Received]) -> None:
    execute(
        session,
        """
        UPDATE inbox SET state = made.state, answered = made.state, reason_code = made.reason_code,
               detail = made.detail, order_source_id = made.order_source_id,
               order_external_id = made.order_external_id, understood = CAST(made.understood AS jsonb),
               settings_version = made.settings_version
        FROM unnest(CAST(:ids AS uuid[]), CAST(:states AS text[]), CAST(:reasons AS text[]), CAST(:details AS text[]),
                    CAST(:order_sources AS uuid[]), CAST(:order_names AS text[]), CAST(:understood AS text[]),
                    CAST(:settings_versions AS bigint[]))
             AS made (id, state, reason_code, detail, order_source_id, order_external_id, understood, settings_version)
        WHERE inbox.merchant_id = :merchant_id AND inbox.id = made.id
        """,
        {
            "merchant_id": merchant_id,
            "ids": list(read),
            "states": [each.state.value for each in read.values()],
            "reasons": [each.reason_code for each in read.values()],
            "details": [each.detail for each in read.values()],
            "order_sources": [each.order[0] if each.order else None for each in read.values()],
            "order_names": [each.order[1] if each.order else None for each in read.values()],
            "understood": [each.understood_text for each in read.values()],
            "settings_versions": [each.settings_version for each in read.values()],
        },
    )
