"""`python -m bench.prove WHAT [--n N] [--seed SEED]`: try to break a promise. Exits with 1 when it does not hold."""

import argparse
import sys
from collections.abc import Callable

from bench import (
    books,
    chaos,
    confluence,
    crash_matrix,
    drafts,
    faults,
    fuzz,
    machine,
    payout_model,
    payout_races,
    sdk,
    show,
)
from bench.client import Stalled
from bench.serve import NotServing
from bench.shop import Refused
from service.infra.embedded_postgres import EmbeddedPostgresError

PROOFS: dict[str, Callable[[int | None, int | None], bool]] = {
    "books": books.prove,
    "chaos": chaos.prove,
    "confluence": confluence.prove,
    "crash-matrix": crash_matrix.prove,
    "faults": faults.prove,
    "fuzz": fuzz.prove,
    "machine": machine.prove,
    "payout-model": payout_model.prove,
    "payout-races": payout_races.prove,
    "sdk": sdk.prove,
    "simulate": drafts.prove,
}
"""By name: takes how many and the seed, as far as given; returns whether the promise holds."""


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="make prove", description="Try to break a promise of the service.")
    parser.add_argument("what", choices=PROOFS, help="what to prove (make prove WHAT=…)")
    parser.add_argument(
        "--n",
        type=int,
        help="how many: of books, replays out of order; of chaos, kills; of faults, times; of fuzz, requests; of machine, times the histories of a test; of payout-model, crashes; of payout-races, rounds; of crash-matrix, cases drawn at random instead of all pairs (make prove N=…)",
    )
    parser.add_argument("--seed", type=int, help="repeat a run that chose these numbers (make prove SEED=…)")
    given = parser.parse_args()
    show.end_in_order()
    try:
        return 0 if PROOFS[given.what](given.n, given.seed) else 1
    except (NotServing, Refused, Stalled, EmbeddedPostgresError, OSError) as error:
        show.say(f"{type(error).__name__}: {error}")
        return 1
    except KeyboardInterrupt:
        show.say("Ended; nothing is left of it.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
