"""The Dockerfile, read as a container engine would; none builds it here."""

import fnmatch
import importlib
import json
import re

import pytest
import typer

from tests.support.house import ROOT


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """Return (instruction, argument) pairs in order, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    pairs = [line.strip().partition(" ") for line in text.splitlines() if line.strip()]
    return [(word.upper(), re.sub(r"\s+", " ", rest).strip()) for word, _, rest in pairs]


def let_in(source: str) -> bool:
    """Say whether .dockerignore lets a path of the project through; the last pattern that fits decides."""
    answer = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        negated, pattern = pattern.startswith("!"), pattern.removeprefix("!")
        if fnmatch.fnmatch(source, pattern) or source.startswith(f"{pattern}/"):
            answer = negated
    return answer


def test_every_copied_path_exists_and_is_let_in(instructions: list[tuple[str, str]]) -> None:
    copies = [
        path.rstrip("/")
        for word, rest in instructions
        if word in {"COPY", "ADD"} and "--from=" not in rest
        for path in [part for part in rest.split() if not part.startswith("--")][:-1]
    ]

    assert copies
    assert [path for path in copies if not (ROOT / path).exists()] == []
    assert [path for path in copies if not let_in(path)] == []


def test_it_takes_files_only_from_stages_that_exist(instructions: list[tuple[str, str]]) -> None:
    stages = {rest.split()[-1] for word, rest in instructions if word == "FROM"}
    sources = {found for word, rest in instructions if word == "COPY" for found in re.findall(r"--from=(\S+)", rest)}

    assert len(stages) == 2
    assert sources
    assert sources <= stages


def test_it_does_not_run_as_root(instructions: list[tuple[str, str]]) -> None:
    users = [rest for word, rest in instructions if word == "USER"]
    last_stage = max(at for at, (word, _) in enumerate(instructions) if word == "FROM")

    assert any(word == "USER" for word, _ in instructions[last_stage:])
    assert users[-1].split(":")[0] not in {"root", "0"}


def test_it_installs_what_is_tested_by_hash(instructions: list[tuple[str, str]]) -> None:
    installs = [
        command for word, rest in instructions if word == "RUN" for command in rest.split("&&") if "pip" in command
    ]

    assert any("--require-hashes" in one and "requirements/run.txt" in one for one in installs)
    for one in installs:
        assert "--require-hashes" in one or "--no-deps" in one
        assert "all.txt" not in one
        assert "embedded" not in one


def test_its_command_is_a_real_verb(instructions: list[tuple[str, str]]) -> None:
    program, verb, *_ = json.loads(next(rest for word, rest in reversed(instructions) if word == "CMD"))
    command = typer.main.get_command(importlib.import_module("service.cli").app)

    assert program == "koc"
    assert verb in getattr(command, "commands", {})


def test_it_looks_after_its_health(instructions: list[tuple[str, str]]) -> None:
    checks = [rest for word, rest in instructions if word == "HEALTHCHECK"]

    assert len(checks) == 1
    assert "/healthz" in checks[0]
