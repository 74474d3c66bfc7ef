"""A script made small: `python -m tests.support.squeezed` writes what `GET /t.js` serves from its readable source.

It knows as much of the language as that one source needs, and refuses what it could spoil: comments stand alone on their
lines, strings have single quotes and no escapes, and no local name is also the key of an object.
"""

import re
from itertools import count
from pathlib import Path

STATIC = Path(__file__).resolve().parents[2] / "service" / "api" / "static"
SOURCE = STATIC / "t.source.js"
SERVED = STATIC / "t.js"

_KEPT = re.compile(r"('[^'\n]*'|(?<=[( ])/[^/\n]+/(?=[.)]))")
"""Strings and regular expressions, which stay as they are."""
_DECLARED = re.compile(r"(?:\bconst |\blet |(?<=, ))(\w+) =|\b(\w+) =>|\(([\w, ]+)\) =>|\blet (\w+)|, (\w+)(?=\n)")
_BLANKS = re.compile(r" *([-=+*?:{}()&|,;<>!\[\]]) *")


def squeezed(source: str) -> str:
    """The script without comments and needless blanks, its local names a letter each."""
    lines = [line.strip() for line in source.splitlines()]
    code = "\n".join(line for line in lines if line and not line.startswith("//"))
    assert "`" not in code, "strings have single quotes"
    names = _names(code)
    parts = _KEPT.split(code)
    for at in range(0, len(parts), 2):
        part = _BLANKS.sub(r"\1", parts[at])
        for name, short in names.items():
            assert not re.search(rf"[{{,]{name}:", part), f"{name} is also a key"
            part = re.sub(rf"(?<![.\w]){name}\b", short, part)
        parts[at] = re.sub(r"(?<=\{)\n|\n(?=\})", "", part)
    return "".join(parts) + "\n"


def _names(code: str) -> dict[str, str]:
    """Map each local name of more than a letter to one of its own."""
    code = "".join(_KEPT.split(code)[::2])
    found = dict.fromkeys(
        name.strip()
        for match in _DECLARED.finditer(code)
        for group in match.groups()
        for name in (group or "").split(",")
        if len(name.strip()) > 1
    )
    taken = set(re.findall(r"\b\w\b", code))
    letters = (chr(97 + at) if at < 26 else chr(39 + at) for at in count())
    return {name: next(each for each in letters if each not in taken) for name in found}


if __name__ == "__main__":
    SERVED.write_text(squeezed(SOURCE.read_text(encoding="utf-8")), encoding="utf-8")
