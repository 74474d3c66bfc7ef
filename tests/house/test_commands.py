"""The commands a person types."""

import os
import subprocess

from tests.support.house import ROOT

# `make test` runs these tests, and its own make must not speak into theirs.
ALONE = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


def test_make_help_lists_the_commands() -> None:
    answer = subprocess.run(["make", "help"], cwd=ROOT, env=ALONE, capture_output=True, text=True, check=True)

    listed = [line.split()[1] for line in answer.stdout.splitlines()]

    assert listed == [
        "help",
        "setup",
        "demo",
        "test",
        "check",
        "fmt",
        "lint-openapi",
        "sdk",
        "bench",
        "prove",
        "mutants",
        "browser",
    ]


def test_an_old_python_is_refused_with_the_way_out() -> None:
    answer = subprocess.run(
        ["make", "setup", "PYTHON=/nowhere/python3", "STAMP=.venv/.never"],
        cwd=ROOT,
        env=ALONE,
        capture_output=True,
        text=True,
        check=False,
    )

    assert answer.returncode != 0
    assert "Python 3.11 or newer" in answer.stdout
    assert "PYTHON=" in answer.stdout


def test_without_chromium_it_says_how_to_get_it_and_only_ci_fails() -> None:
    asked = ["make", "browser", "CHROMIUM=/nowhere/chromium"]
    anywhere = {name: value for name, value in ALONE.items() if name != "CI"}

    here = subprocess.run(asked, cwd=ROOT, env=anywhere, capture_output=True, text=True, check=False)
    in_ci = subprocess.run(asked, cwd=ROOT, env=anywhere | {"CI": "true"}, capture_output=True, text=True, check=False)

    assert "apt-get install chromium" in here.stdout
    assert "apt-get install chromium" in in_ci.stdout
    assert here.returncode == 0
    assert in_ci.returncode != 0
