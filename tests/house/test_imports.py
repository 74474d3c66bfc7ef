"""Imports go down the house (pyproject.toml, [tool.importlinter])."""

import subprocess
import sys
from pathlib import Path

from tests.support.house import ROOT, pyproject


def test_the_import_contracts_are_kept() -> None:
    answer = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "0 broken" in answer.stdout


def test_every_line_of_the_house_is_in_the_contract() -> None:
    house = next(one for one in pyproject()["tool"]["importlinter"]["contracts"] if one["id"] == "house")

    lines = [line.replace("(", "").replace(")", "") for line in house["layers"]]

    assert (house["containers"], house["exhaustive"]) == (["service"], True)
    assert lines == [
        "start",
        "cli",
        "sdk",
        "main",
        "api | portal | worker | rebuild",
        "intake | payouts | reports",
        "commissions",
        "tracking",
        "ledger | outbox",
        "tables | infra",
        "domain",
    ]
