"""Every golden test is on the page of golden tests, and everything on that page is a test."""

import re

from tests.support.house import ROOT, python_files


def test_the_page_lists_every_golden_test_and_no_other() -> None:
    page = (ROOT / "docs" / "golden.md").read_text(encoding="utf-8")
    listed = re.findall(r"`(tests/[a-z0-9_/]+\.py::test_\w+)`", page)

    written = [
        f"{path.relative_to(ROOT)}::{name}"
        for path in python_files("tests")
        for name in re.findall(r"^def (test_golden_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]

    assert sorted(listed) == sorted(written)
