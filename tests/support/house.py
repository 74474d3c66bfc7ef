"""The project's own files, as the house tests read them."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def python_files(folder: str) -> list[Path]:
    """Return the Python files below a folder of the project, in a fixed order. Raises if there are none to check."""
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files, f"{folder} holds no Python files"
    return files


def nodes(path: Path) -> Iterator[ast.AST]:
    """Yield every node of a file's syntax tree."""
    return ast.walk(ast.parse(path.read_text(encoding="utf-8"), path))


def place(path: Path, node: ast.AST) -> str:
    """Return file:line, as a terminal can open it."""
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
