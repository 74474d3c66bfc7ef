"""Random histories against the oracle, more of them than the test suite plays: the machine's own tests, multiplied."""

import os
import re
import subprocess
import sys
from collections import Counter

from bench import show

TIMES = 10
SEED = 20270129
WORLDS = {"pure rules": "tests/domain/test_machine.py", "service": "tests/journeys/test_machine.py"}


def prove(n: int | None, seed: int | None) -> bool:
    """Play n times (10) as many histories as the tests do, in each world. Returns whether the oracle always agreed."""
    times, seed = n or TIMES, SEED if seed is None else seed
    show.say(f"seed {seed}")
    played: Counter[str] = Counter()
    failed = 0
    for world, tests in WORLDS.items():
        show.say(f"Playing {times} times the histories of {tests}.")
        command = [sys.executable, "-m", "pytest", tests, "-n", "0", "-q", "-rP", f"--hypothesis-seed={seed}"]
        env = {**os.environ, "KOC_TEST_MACHINE": str(times)}
        answer = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        found = Counter[str]()
        for line in re.findall(r"^played (.*)$", answer.stdout, re.MULTILINE):
            for each in line.split(", "):
                count, _, what = each.partition(" ")
                found[what] += int(count)
        if answer.returncode:
            failed += 1
            show.say(answer.stdout[-20_000:])
        played.update(found)
        show.table(
            f"Histories of the {world}", ("what", "how many"), [(what, str(found[what])) for what in sorted(found)]
        )
    show.result("machine", examples=played["histories"], steps=played["steps"], violations=failed)
    return not failed
