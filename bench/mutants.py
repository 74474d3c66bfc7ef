"""`python -m bench.mutants WHAT [--n N] [--seed SEED]`: change the code in small ways and see whether the tests notice.

mutmut (https://mutmut.readthedocs.io) makes the changes and runs the tests; it lives in an environment of its own, which
`make mutants` builds. Everything happens in `mutants/<WHAT>`, a copy of the code as it was when the run began; there
`mutmut show NAME` prints a mutant and `mutmut run NAME` tries it again. docs/mutation.md tells the figures and judges
each survivor.
"""

import argparse
import ast
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import get_mutant_name

from bench import show
from tests.support import databases

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Target:
    """What is changed and which tests should notice.

    needs_database: the tests want PostgreSQL; one is kept for all mutants. leave_out: tests too slow to run for each.
    sample: how many mutants are drawn; None: all. Out of a sample mutants that only change a text are left out: most
    texts here are SQL, which no test survives, so they would flatter the score.
    """

    packages: tuple[str, ...]
    tests: tuple[str, ...]
    needs_database: bool = False
    sample: int | None = None
    leave_out: tuple[str, ...] = ()


TARGETS = {
    "domain": Target(
        packages=("domain",),
        tests=("tests/domain",),
        # They try thousands of histories, which costs too much a thousand times over; the fast tests have to suffice.
        leave_out=("tests/domain/test_machine.py", "tests/domain/test_confluence.py", "tests/domain/test_fact_sets.py"),
    ),
    "ledger": Target(
        packages=("ledger", "commissions"),
        tests=(
            "tests/stages/test_assess.py",
            "tests/stages/test_audit.py",
            "tests/stages/test_chain.py",
            "tests/stages/test_commission_events.py",
            "tests/stages/test_confluence.py",
            "tests/stages/test_recheck.py",
            "tests/stages/test_payout_execute.py",
            "tests/stages/test_payout_reserve.py",
            "tests/stages/test_places.py",
            "tests/stages/test_settle.py",
            "tests/stages/test_stored_facts.py",
        ),
        needs_database=True,
        sample=200,
    ),
}

KILLED = frozenset({"killed", "timeout", "segfault"})
"""How a mutant ends when a test noticed it. A test that never ends again would have been noticed, too."""


def prepare(target: Target, folder: Path) -> None:
    """Copy the code into a folder and tell mutmut what to do there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("service", "tests", "migrations"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy2(ROOT / "alembic.ini", folder)
    ignore = [f"--ignore={path}" for path in target.leave_out]
    options: dict[str, Sequence[str]] = {
        "source_paths": ["service"],
        "only_mutate": [f"service/{package}/*" for package in target.packages],
        "also_copy": ["migrations", "alembic.ini"],
        "pytest_add_cli_args": ["-n", "0", "-p", "no:cacheprovider", "--hypothesis-profile", "mutants", *ignore],
        "pytest_add_cli_args_test_selection": target.tests,
    }
    # A list of strings reads the same in JSON and TOML.
    written = "\n".join(f"{key} = {json.dumps(list(value))}" for key, value in options.items())
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + f"\n[tool.mutmut]\n{written}\n")


def mutants_of(target: Target, folder: Path) -> dict[str, bool]:
    """Map the name of each mutant to whether it only changes a text."""
    found: dict[str, bool] = {}
    with contextlib.chdir(folder):
        for package in target.packages:
            for path in sorted(Path("service", package).glob("*.py")):
                mutated = mutate_file_contents(str(path), path.read_text())
                bodies = {name: _without_text(node) for name, node in _functions(ast.parse(mutated.code))}
                for name in mutated.mutant_names:
                    original = bodies[name.partition("__mutmut_")[0] + "__mutmut_orig"]
                    found[get_mutant_name(path, name)] = bodies[name] == original
    return found


def draw(mutants: dict[str, bool], *, count: int, seed: int) -> list[str]:
    """Draw names by chance from those that change more than a text."""
    candidates = [name for name, only_text in mutants.items() if not only_text]
    return sorted(random.Random(seed).sample(candidates, min(count, len(candidates))))


def outcomes(folder: Path) -> dict[str, str]:
    """Map each mutant that was tried to how it ended."""
    return {
        name: status_by_exit_code[code]
        for path in sorted((folder / "mutants").rglob("*.meta"))
        for name, code in json.loads(path.read_text())["exit_code_by_key"].items()
        if code is not None
    }


@contextlib.contextmanager
def database() -> Iterator[None]:
    """Keep one PostgreSQL for all test runs within the block; each run clones a database of its own."""
    server = databases.Server()
    server.start()
    try:
        yield
    finally:
        server.stop()


def run(folder: Path, names: Sequence[str], *, at_once: int) -> None:
    """Let mutmut try these mutants, or all, in a folder; it shows how far it is."""
    command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", str(at_once), *names]
    # A fixed order of tests, so that a run can be repeated.
    subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONHASHSEED": "0"}, check=True)


def changes(folder: Path, name: str) -> str:
    """The lines a mutant takes out and puts in."""
    path = Path(*name.partition(".x")[0].split(".")).with_suffix(".py")
    with contextlib.chdir(folder):
        lines = get_diff_for_mutant(name, path=path).splitlines()[2:]
    return "\n".join(line for line in lines if line.startswith(("+", "-")))


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and "__mutmut_" in node.name:
            yield node.name, node


def _without_text(function: ast.FunctionDef) -> str:
    """What a function does, with every text taken out of it, which also takes them out of the tree."""
    for node in ast.walk(function):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return "".join(ast.dump(part) for part in (function.args, *function.body))


def main() -> int:
    """Try the mutants and print those that no test noticed."""
    parser = argparse.ArgumentParser(prog="make mutants", description="See whether the tests notice a changed line.")
    parser.add_argument("what", nargs="?", choices=TARGETS, default="domain", help="what to change (WHAT=…)")
    parser.add_argument("--n", type=int, help="how many mutants of a sample (N=…)")
    parser.add_argument("--seed", type=int, help="draw the sample of an earlier run again (SEED=…)")
    parser.add_argument("--at-once", type=int, default=1, help="mutants tried at once")
    given = parser.parse_args()
    target, folder = TARGETS[given.what], ROOT / "mutants" / given.what
    prepare(target, folder)
    mutants = mutants_of(target, folder)
    seed = given.seed if given.seed is not None else random.randrange(10**6)
    count = given.n or target.sample
    names = draw(mutants, count=count, seed=seed) if count else []
    if names:
        show.say(f"{len(names)} of {len(mutants)} mutants by seed {seed}; {sum(mutants.values())} only change a text.")
    with database() if target.needs_database else contextlib.nullcontext():
        run(folder, names, at_once=given.at_once)

    ended = outcomes(folder)
    for name, status in sorted(ended.items()):
        if status not in KILLED:
            show.say(f"\n{status}: {name}\n{changes(folder, name)}")
    tally = Counter(ended.values())
    killed = sum(tally[status] for status in KILLED)
    told = {status.replace(" ", "_"): number for status, number in sorted(tally.items())}
    sampled = {"of": len(mutants), "seed": seed} if names else {}
    show.result("mutants", code=given.what, tried=len(ended), **sampled, **told, score=f"{killed / len(ended):.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
