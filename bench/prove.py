"""`python -m bench.prove WHAT [--n N]`: prove something on real orders. Exits with 1 when it does not hold."""

import argparse
import sys

from bench import books, show
from bench.client import Stalled
from bench.serve import NotServing
from bench.shop import Refused
from service.infra.embedded_postgres import EmbeddedPostgresError

PROOFS = {"books": books.prove}


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="make prove", description="Prove a property of the service on real orders.")
    parser.add_argument("what", choices=PROOFS, help="what to prove (make prove WHAT=…)")
    parser.add_argument("--n", type=int, help="books: how many replays out of order (make prove N=…)")
    given = parser.parse_args()
    show.end_in_order()
    try:
        return 0 if PROOFS[given.what](given.n) else 1
    except (NotServing, Refused, Stalled, EmbeddedPostgresError, OSError) as error:
        show.say(f"{type(error).__name__}: {error}")
        return 1
    except KeyboardInterrupt:
        show.say("Ended; nothing is left of it.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
