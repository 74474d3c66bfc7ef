"""`python -m bench WHAT [--n N] [--floor RATIO]`: measure orders, redirect, overload, postings, payouts, simulate, reports or statements. Exits with 1 when it falls short."""

import argparse
import sys

from bench import orders, overload, payouts, postings, redirect, reports, show, simulate, statements
from bench.client import Stalled
from bench.serve import NotServing
from bench.shop import Refused
from service.infra.embedded_postgres import EmbeddedPostgresError

BENCHES = {
    "orders": orders.bench,
    "redirect": redirect.bench,
    "overload": overload.bench,
    "postings": postings.bench,
    "payouts": payouts.bench,
    "simulate": simulate.bench,
    "statements": statements.bench,
    "reports": reports.bench,
}


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure the service against a plain one.")
    parser.add_argument("what", choices=BENCHES, help="what to measure (make bench WHAT=…)")
    parser.add_argument(
        "--n",
        type=int,
        help="requests in each round; of overload, its seconds; of postings, payouts, simulate, reports and statements, how many (make bench N=…)",
    )
    parser.add_argument(
        "--floor",
        type=float,
        help="the smallest ratio that counts as good; of postings, simulate, reports and statements, the largest",
    )
    given = parser.parse_args()
    show.end_in_order()
    try:
        return 0 if BENCHES[given.what](given.n, given.floor) else 1
    except (NotServing, Refused, Stalled, EmbeddedPostgresError, ConnectionError) as error:
        show.say(f"{type(error).__name__}: {error}")
        return 1
    except KeyboardInterrupt:
        show.say("Ended; nothing is left of it.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
