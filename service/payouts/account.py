"""How accounts of payees are kept: encrypted, and recognised unread by a keyed hash."""

from uuid import UUID

from service.domain.destination import AccountType, Destination
from service.infra.security import Security
from service.payouts.providers.model import DESTINATION


def sealed(security: Security, destination: Destination) -> bytes:
    """Encrypt an account, as rails are given it."""
    return security.encrypt(destination.to_text().encode(), purpose=DESTINATION)


def opened(security: Security, stored: bytes) -> Destination:
    """Read what `sealed` made."""
    return Destination.of_text(security.decrypt(stored, purpose=DESTINATION).decode())


def fingerprint(security: Security, merchant_id: UUID, rail: str, destination: Destination) -> str:
    """Return the keyed hash by which an account is recognised among all of a merchant's, however it was written.

    An id at a provider means something at that provider alone; any other account is the same on every rail.
    """
    within = rail if destination.type is AccountType.PROVIDER else destination.type
    return security.fingerprint(merchant_id, within, destination.identity)
