"""A Stripe that lives on this machine and speaks real HTTP: what payouts need of its API v1 and v2, and its faults.

    with StripeDouble() as stripe:        # stripe.url, stripe.fault("lost"), stripe.transfers, stripe.payments
    python -m tests.doubles.stripe --port 12111

What it promises is what Stripe's documentation promises (Idempotent requests; Advanced error handling; read 2026-11): the
first answer under a key is stored and given again, 500s too (under API v2 failed work is done anew instead); another
request under a stored key is a 400 of type idempotency_error; a key that is in use is a 409; 401, 429 and unreadable
parameters come before that layer and are not stored. Parameters are checked against stripe-python's own typed
dictionaries, so the double cannot drift from the library.

Controls are JSON over HTTP, beside Stripe's own addresses:

    POST /_control/faults {"kind": …, "times": 1, "destination": …, "seconds": …, "path": …}   kinds are those of `Fault`
    POST /_control/accounts/{id}/onboard, …/restrict, …/payout {"amount": 100, "status": "paid"}
    POST /_control/transfers/{id}/reverse {"amount": "400"}, /_control/payments/{id}/posted (or failed, canceled, returned)
    POST /_control/deliver {"url": …, "secret": "whsec_…", "seed": 7}   all events, signed; with a seed shuffled, some twice
    GET /_control/state, DELETE /_control/keys (forgets all keys)
"""

from tests.doubles.stripe.payments import FINANCIAL_ACCOUNT
from tests.doubles.stripe.server import Server, StripeDouble, deliver, signed

__all__ = ["FINANCIAL_ACCOUNT", "Server", "StripeDouble", "deliver", "signed"]
