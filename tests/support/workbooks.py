"""Read a workbook as a spreadsheet does, from its parts, without the library that wrote it."""

import io
import zipfile
from dataclasses import dataclass
from xml.etree import ElementTree as ET

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


@dataclass(frozen=True, slots=True)
class Cell:
    """is_text: a text of its own, which is never computed. code: of the number's format. quoted: stays text when edited."""

    value: str
    is_text: bool
    code: str
    quoted: bool


@dataclass(frozen=True, slots=True)
class Sheet:
    """rows: cells by column letter. frozen: rows that stay on top."""

    name: str
    rows: list[dict[str, Cell]]
    frozen: int
    formulas: int

    @property
    def header(self) -> list[str]:
        return [cell.value for cell in self.rows[0].values()]

    def records(self) -> list[dict[str, Cell]]:
        """Rows below the header, by the name of their column without its unit."""
        names = {letters: cell.value.partition(" (")[0] for letters, cell in self.rows[0].items()}
        return [{names[letters]: cell for letters, cell in row.items()} for row in self.rows[1:]]


def sheets_of(content: bytes) -> list[Sheet]:
    """Return the sheets of a workbook in order."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        book = _tree(archive.read("xl/workbook.xml"))
        names = [sheet.attrib["name"] for sheet in book.iter(f"{_MAIN}sheet")]
        formats = _formats(_tree(archive.read("xl/styles.xml")))
        return [
            _sheet(name, _tree(archive.read(f"xl/worksheets/sheet{number}.xml")), formats)
            for number, name in enumerate(names, 1)
        ]


def properties_of(content: bytes) -> str:
    """Return what a workbook says of itself."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read("docProps/core.xml").decode()


def _tree(part: bytes) -> ET.Element:
    return ET.fromstring(part)  # noqa: S314 # written by the service a moment ago


def _formats(styles: ET.Element) -> list[tuple[str, bool]]:
    codes = {each.attrib["numFmtId"]: each.attrib["formatCode"] for each in styles.iter(f"{_MAIN}numFmt")}
    # Those that every spreadsheet knows by number. Source: ECMA-376, part 1, 18.8.30.
    codes |= {"0": "General", "1": "0", "2": "0.00", "3": "#,##0", "4": "#,##0.00"}
    used = styles.find(f"{_MAIN}cellXfs")
    assert used is not None
    return [(codes[each.attrib["numFmtId"]], each.attrib.get("quotePrefix") == "1") for each in used]


def _sheet(name: str, tree: ET.Element, formats: list[tuple[str, bool]]) -> Sheet:
    pane = tree.find(f".//{_MAIN}pane")
    rows = []
    for row in tree.iter(f"{_MAIN}row"):
        cells = {}
        for cell in row.iter(f"{_MAIN}c"):
            code, quoted = formats[int(cell.attrib.get("s", "0"))]
            text = "".join(each.text or "" for each in cell.iter(f"{_MAIN}t"))
            number = cell.findtext(f"{_MAIN}v")
            letters = cell.attrib["r"].rstrip("0123456789")
            cells[letters] = Cell(text if number is None else number, number is None, code, quoted)
        rows.append(cells)
    frozen = 0 if pane is None or pane.attrib.get("state") != "frozen" else int(pane.attrib["ySplit"])
    return Sheet(name, rows, frozen, len(list(tree.iter(f"{_MAIN}f"))))
