"""What a reader pastes: the fenced blocks of a page, and a shell that runs them in the page's order."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.house import ROOT

SHELL, PYTHON = frozenset({"bash", "sh"}), "python"
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))

_OPENS = re.compile(r"( *)```([\w-]*)\s*")
_PAGE_S = 120
"""Seconds a page may take; far longer than it needs, for a machine that is busy with other tests."""
_SAID = 3000
"""Characters of what was said last that a failure quotes."""
_HOW_IT_FAILS = """
unset BASH_ENV
set -Eeuo pipefail
# The line of the page, also where a function of the tour is what failed.
trap '[ "$BASH_SUBSHELL" = 0 ] && echo "$PAGE:$([ ${#BASH_LINENO[@]} -gt 1 ] && echo "${BASH_LINENO[-2]}" || echo "$LINENO")'\
' failed: $BASH_COMMAND" >&2' ERR
"""


@dataclass(frozen=True)
class Block:
    """language: empty where none is named. line: of its first line on the page, from 1."""

    language: str
    line: int
    text: str


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page in its order, freed of the indent they have in a list."""
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        opens = _OPENS.fullmatch(line)
        if opens is None:
            continue
        indent, held = opens[1], []
        for _, inner in lines:
            if inner.strip() == "```":
                break
            held.append(inner.removeprefix(indent))
        yield Block(opens[2], number + 1, "\n".join(held))


def runs(block: Block) -> bool:
    return block.language in SHELL or block.language == PYTHON


@dataclass(frozen=True)
class Desk:
    """Where a reader sits. folder: theirs. environment: from which `koc` reaches the service.

    state: what their shell knows already, in its own words; nothing where it does not exist.
    """

    folder: Path
    environment: Mapping[str, str]
    state: Path

    @classmethod
    def made(cls, folder: Path, environment: Mapping[str, str]) -> "Desk":
        """A desk in a new folder that holds what the pages find in a checkout, and nothing else."""
        seat = folder / "checkout"
        seat.mkdir()
        for name, place in ((".venv", Path(sys.prefix)), ("tests", ROOT / "tests")):
            (seat / name).symlink_to(place)
        return cls(seat, environment, folder / "state.sh")

    def paste(self, page: Path, *, keep: bool = False) -> str:
        """Run every block of a page that can be run, in one shell; return what they printed.

        keep: whether later pages find the variables and functions of this one. Raises AssertionError with page, line
        and what was said when anything ends with an error.
        """
        scripts = self.state.with_name("scripts")
        script = scripts / name_of(page)
        script.parent.mkdir(parents=True, exist_ok=True)
        text = _script(page, script)
        if keep:
            names = " ".join(sorted(set(re.findall(r"^([A-Z_]+)=", text, re.MULTILINE))))
            text += f"\nexport -n {names}\n{{ declare -p {names}; declare -f; }} >{shlex.quote(str(self.state))}\n"
        script.write_text(text, encoding="utf-8")
        begins = script.with_suffix(".begins")
        begins.write_text((self.state.read_text() if self.state.exists() else "") + _HOW_IT_FAILS)
        return self._run(name_of(page), script, begins)

    def _run(self, page: str, script: Path, begins: Path) -> str:
        process = subprocess.Popen(
            ["bash", script],
            cwd=self.folder,
            env={**self.environment, "BASH_ENV": str(begins), "PAGE": page},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        ended = ""
        try:
            out, err = process.communicate(timeout=_PAGE_S)
        except subprocess.TimeoutExpired:
            ended = f"was still running after {_PAGE_S} s"
            _end(process)
            out, err = process.communicate()
        finally:
            _end(process)
        if process.returncode != 0:
            ended = ended or f"ended with {process.returncode}"
        assert not ended, f"{page} {ended}.\nstdout: …{out[-_SAID:]}\nstderr: …{err[-_SAID:]}"
        return out


def _end(process: "subprocess.Popen[str]") -> None:
    """End what is left of a page, also what it started and forgot."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _script(page: Path, script: Path) -> str:
    """The page with nothing left but its blocks, each in its own lines: what an error says of lines is of the page."""
    lines = [""] * len(page.read_text(encoding="utf-8").splitlines())
    for block in filter(runs, blocks(page)):
        text = block.text
        if block.language == PYTHON:
            program = script.with_name(f"{page.name}.{block.line}.py")
            program.write_text("\n" * (block.line - 1) + text + "\n", encoding="utf-8")
            text = shlex.join([sys.executable, str(program)])
        held = text.split("\n")
        lines[block.line - 1 : block.line - 1 + len(held)] = held
    return "\n".join(lines) + "\n"
