"""The table of docs/keys.md, made from the code: `python -m tests.support.scopes_page` writes it anew."""

from fastapi.routing import APIRoute

from service.api.described import allowed_of
from service.main import ROUTERS
from tests.support.house import ROOT

PAGE = ROOT / "docs" / "keys.md"
_BEGIN, _END = "<!-- scopes: begin -->\n", "<!-- scopes: end -->\n"


def table() -> str:
    """Return who may call what, one operation a line, in the order of their paths."""
    lines = ["| operation | a key with | and only what is of |\n", "|---|---|---|\n"]
    rows = []
    for router in ROUTERS:
        for route in router.routes:
            if not isinstance(route, APIRoute) or not route.include_in_schema:
                continue
            allowed = allowed_of(route)
            scopes = "no key" if allowed is None else ", ".join(allowed.scopes)
            owner = "everybody" if allowed is None else f"the {allowed.owner}"
            rows += [
                (route.path, f"| `{method} {route.path}` | {scopes} | {owner} |\n") for method in route.methods or ()
            ]
    return "".join(lines + [line for _, line in sorted(rows)])


def written(text: str) -> str:
    """Return the page with its table made anew."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{table()}{_END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
