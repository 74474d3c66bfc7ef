"""The tables of docs/reports.md, made from the definitions: `python -m tests.support.reports_page` writes them anew."""

from service.reports.define import Filter, Format, Kind, Report
from service.reports.registry import REPORTS
from tests.support.house import ROOT

PAGE = ROOT / "docs" / "reports.md"
_BEGIN, _END = "<!-- reports: begin -->\n", "<!-- reports: end -->\n"


def tables() -> str:
    """Return every report with its filters and columns."""
    listed = [
        f"| [`{report.name}`](#{report.name}) | {report.description} | {_filters(report)} |\n"
        for report in REPORTS.values()
    ]
    return "".join(
        [
            f"Formats of each: {', '.join(f'`.{form.value}`' for form in Format)}.\n\n",
            "| report | what a row is | filters |\n|---|---|---|\n",
            *listed,
            *(_columns(report) for report in REPORTS.values()),
        ]
    )


def written(text: str) -> str:
    """Return the page with its tables made anew."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{tables()}{_END}{after}"


def _filters(report: Report) -> str:
    return " ".join(f"`{each.value}`" for each in Filter if each in report.filters) or "–"


def _columns(report: Report) -> str:
    lines = [
        f"\n### {report.name}\n\n{report.title}. Ordered by {_order(report)}.\n\n",
        "| cells | unit | meaning |\n",
        "|---|---|---|\n",
    ]
    for column in report.columns:
        cells = ", ".join(f"`{cell}`" for cell in column.cells)
        unit = f"id, `{column.prefix}_…`" if column.kind is Kind.ID else ", ".join(column.units)
        lines.append(f"| {cells} | {unit} | {column.description} |\n")
    return "".join(lines)


def _order(report: Report) -> str:
    return ", then ".join(f"`{name.strip()}`" for name in report.order.split(","))


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
