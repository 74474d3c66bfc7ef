"""How Stripe counts money: where its minor units are not ISO's, and in which steps it pays."""

from service.domain.money import EXPONENTS

_STRIPE_EXPONENTS = {"ISK": 2, "UGX": 2, "MGA": 0}
"""Where Stripe's minor unit is not ISO's. Source: Stripe documentation, Currencies, "Zero-decimal currencies" and
"Special cases", read 2026-11; all others are as in ISO 4217."""
_WHOLE_UNITS_ONLY = frozenset({"HUF", "TWD"})
"""Two decimals in requests, but only whole units are paid out. Source: as above."""
_LAST_DIGIT_ZERO = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})
"""Three decimals of which the last must be 0. Source: as above; other three-decimal currencies are not offered."""


def step_minor(currency: str) -> int | None:
    """Return the smallest amount Stripe pays in ISO minor units, None for currencies it does not offer."""
    iso = EXPONENTS.get(currency)
    if iso is None or iso > 3 or (iso == 3 and currency not in _LAST_DIGIT_ZERO):
        return None
    if currency in _LAST_DIGIT_ZERO:
        return 10
    whole_unit: int = 10**iso
    return whole_unit if currency in _WHOLE_UNITS_ONLY or _STRIPE_EXPONENTS.get(currency, iso) < iso else 1


def stripe_amount(amount_minor: int, currency: str) -> int:
    """Return ISO minor units as Stripe counts them; the amount must be a multiple of the step."""
    up, down = _factors(currency)
    whole, rest = divmod(amount_minor * up, down)
    assert rest == 0, f"{amount_minor} {currency} is below a step"
    return whole


def iso_amount(stripe_minor: int, currency: str) -> int:
    """Return what Stripe counts as ISO minor units; digits ISO does not have are cut off, which no transfer of ours has."""
    up, down = _factors(currency)
    return stripe_minor * down // up


def _factors(currency: str) -> tuple[int, int]:
    """(by what to multiply, by what to divide) ISO minor units to get Stripe's."""
    # A transfer that is not ours may be in a currency we do not know; two decimals are what Stripe then means.
    iso = EXPONENTS.get(currency, 2)
    theirs = _STRIPE_EXPONENTS.get(currency, iso)
    up: int = 10 ** max(0, theirs - iso)
    down: int = 10 ** max(0, iso - theirs)
    return up, down
