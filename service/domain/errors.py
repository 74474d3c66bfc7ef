"""What can go wrong, one class per cause; the kind tells the caller what to do. Only `api/problems.py` knows HTTP."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a request. place: steps to it in the body. detail: never holds what was sent."""

    place: tuple[str | int, ...]
    code: str
    detail: str


class ServiceError(Exception):
    """An expected failure.

    code: stable once published, kebab-case. title: one human line. The message of the exception is the detail:
    it names the things involved and the next step, and never holds a secret.
    """

    code = "service-error"
    title = "The service could not do this"
    faults: tuple[Fault, ...] = ()
    """What is wrong in which places, of an error that is about several."""

    @property
    def detail(self) -> str:
        return str(self)


class Invalid(ServiceError):
    """The request cannot be understood or breaks a rule of its own; sending it again changes nothing."""

    code = "invalid-request"
    title = "The request is not valid"


class Unauthenticated(ServiceError):
    """Nobody we know signed or sent this."""

    code = "unauthenticated"
    title = "The caller could not be recognised"


class Forbidden(ServiceError):
    """We know the caller, who may not do this."""

    code = "forbidden"
    title = "The caller may not do this"


class Missing(ServiceError):
    """There is no such thing for this caller."""

    code = "not-found"
    title = "There is no such thing here"


class Conflict(ServiceError):
    """The request is fine, the present state forbids it."""

    code = "conflict"
    title = "The present state does not allow this"


class PreconditionFailed(ServiceError):
    """Somebody changed it since the caller read it. Read it again, and decide again."""

    code = "precondition-failed"
    title = "It is not as you last saw it"


class TooLarge(ServiceError):
    """More bytes or items than the limit named in the detail."""

    code = "too-large"
    title = "The request is larger than allowed"


class Unavailable(ServiceError):
    """We are too busy or a part of us is away; the same request may succeed after `retry_after_s` seconds."""

    code = "unavailable"
    title = "The service is busy, try again"
    retry_after_s = 1


class RateLimited(ServiceError):
    """More requests than this key or source may make; the same request may succeed after `retry_after_s` seconds."""

    code = "rate-limited"
    title = "Too many requests, try again later"

    def __init__(self, detail: str, *, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class UnknownCurrency(Invalid):
    code = "unknown-currency"
    title = "The currency is not an active ISO 4217 code"


class InvalidAmount(Invalid):
    code = "invalid-amount"
    title = "The amount cannot be written in minor units of its currency"


class InvalidTerms(Invalid):
    code = "invalid-terms"
    title = "The programme terms are not valid"


class InvalidTaxDetail(Invalid):
    code = "invalid-tax-detail"
    title = "The tax profile has a detail that does not fit"


class BackDated(Conflict):
    """Dated inputs are append-only and never reach into the past once orders may have used them."""

    code = "back-dated"
    title = "The start date lies too early"


class InvariantBroken(Exception):
    """The books contradict themselves. Never caught but by the batcher and the job loop, which park or stop and alert."""
