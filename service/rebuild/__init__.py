"""Make a merchant's books again in an empty database, from what they were made of, and compare: the strongest proof.

`copy` takes over who is who and every dated input, `orders` books the deliveries and settle runs again, `payouts` the
money out, `compare` names what differs. The live books are only read, as of one moment, so the service may run.
"""
