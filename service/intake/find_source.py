"""The source that deliveries without a signature go into: its merchant said so with a key, or sits at the machine."""

from uuid import UUID

from sqlmodel import Session

from service.domain.errors import Conflict, Missing
from service.infra.db import fetch
from service.intake.receive import KnownSource
from service.tables.parties import Platform


class NoSuchSource(Missing):
    code = "no-such-source"
    title = "There is no such source"


class SourceClosed(Conflict):
    """The source was disabled, or is the desk, through which only people's decisions enter."""

    code = "source-closed"
    title = "The source takes no orders"


def find_source(session: Session, source_id: UUID, *, merchant_id: UUID | None = None) -> KnownSource:
    """Return a source that takes orders, without its secret. Raises NoSuchSource, SourceClosed.

    merchant_id: whose it has to be; None asks nobody.
    """
    rows = fetch(
        session,
        """
        SELECT merchant_id, platform, shop_domain, disabled_at,
               coalesce(newest.settings, CAST('{}' AS jsonb)) AS settings, coalesce(newest.version, 0) AS version,
               (SELECT is_test FROM merchant WHERE merchant.id = source.merchant_id) AS is_test
        FROM source
        LEFT JOIN LATERAL (SELECT settings, version FROM source_settings WHERE source_id = source.id
                           ORDER BY version DESC LIMIT 1) AS newest ON true
        WHERE id = :id AND (CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id)
        """,
        {"id": source_id, "merchant_id": merchant_id},
    )
    if not rows:
        raise NoSuchSource("There is no such source here; GET /v1/sources lists them.")
    [row] = rows
    if row.platform == Platform.DESK:
        raise SourceClosed("Through the desk only decisions enter. Name the source of a shop.")
    if row.disabled_at is not None:
        raise SourceClosed("This source was disabled. Make another, or name the one the shop delivers to.")
    return KnownSource(
        source_id,
        row.merchant_id,
        Platform(row.platform),
        b"",
        row.shop_domain,
        row.settings,
        row.version,
        is_test=row.is_test,
    )


def our_grammar(source: KnownSource) -> Platform | None:
    """In whose language to say that an event is, when it is in ours: nobody's for a source that speaks it anyway."""
    return None if source.platform is Platform.GENERIC else Platform.GENERIC
