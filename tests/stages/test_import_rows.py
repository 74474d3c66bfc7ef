"""From a file and its mapping to events: what is read, how it is written, and what is refused in which words."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from service.domain.order import JsonObject, OrderSnapshot
from service.intake import import_rows
from service.intake.adapters import generic
from service.intake.adapters.model import Delivery
from service.intake.cells import Refused
from service.intake.import_rows import InvalidImportFile, items_of, measure
from service.intake.mapping import InvalidMapping, load_mapping, read_mapping
from tests.support.imports import FILES, ORDER, PRESETS, a_mapping, preset, read, written
from tests.support.webhooks import READING

AT = "2026-01-01T12:00:00Z"


def one(folder: Path, cells: str, header: str = "id;at;net", **changes: Any) -> Any:
    """What one row says, its cells divided by semicolons."""
    [found] = read(written(folder, f"{header}\n{cells}\n"), a_mapping(delimiter=";", **changes))
    return found


@pytest.mark.parametrize(
    ("cell", "changes", "net"),
    [
        pytest.param("1234.5", {}, "1234.50", id="plain"),
        pytest.param(" 19.99\t", {}, "19.99", id="blanks around"),
        pytest.param("1,234.50", {"thousands": ","}, "1234.50", id="thousands"),
        pytest.param("1.234.567,89", {"decimal": ",", "thousands": "."}, "1234567.89", id="decimal comma"),
        pytest.param("1\u00a0234\u202f567,89", {"decimal": ",", "thousands": " "}, "1234567.89", id="narrow blanks"),
        pytest.param("1'234.50", {"thousands": "'"}, "1234.50", id="apostrophe"),
        pytest.param("$ 19.99", {"currency_signs": ["$"]}, "19.99", id="sign before"),
        pytest.param("19.99 USD", {"currency_signs": ["USD", "$"]}, "19.99", id="sign after"),
        pytest.param("1,5", {}, "invalid_number", id="a comma nobody told of"),
        pytest.param("1.5", {"decimal": ","}, "invalid_number", id="a point nobody told of"),
        pytest.param("12,34.50", {"thousands": ","}, "invalid_number", id="thousands out of place"),
        pytest.param("1,234,5", {"thousands": ","}, "invalid_number", id="comma as decimal after all"),
        pytest.param("1e400", {}, "invalid_number", id="exponent"),
        pytest.param("NaN", {}, "invalid_number", id="not a number"),
        pytest.param("=1+1", {}, "invalid_number", id="formula"),
        pytest.param("１９", {}, "invalid_number", id="digits of another script"),
        pytest.param("9" * 19, {}, "invalid_number", id="too many digits"),
        pytest.param("9" * 18, {}, "invalid_amount", id="too much"),
        pytest.param("0.001", {}, "invalid_amount", id="more decimals than the currency"),
        pytest.param("-1", {}, "negative_amount", id="below zero"),
        pytest.param("", {}, "missing_cell", id="blank"),
    ],
)
def test_amounts_are_read_as_told_and_never_guessed(tmp_path: Path, cell: str, changes: Any, net: str) -> None:
    found = one(tmp_path, f"1;{AT};{cell}", **changes)

    assert (found if isinstance(found, str) else found["lines"][0]["net"]) == net


@pytest.mark.parametrize(
    ("cell", "changes", "at"),
    [
        pytest.param("2026-01-01T12:00:00.5Z", {}, "2026-01-01T12:00:00.500000Z", id="iso"),
        pytest.param("2026-01-01 12:00:00 +0700", {}, "2026-01-01T05:00:00Z", id="iso as Shopify writes it"),
        pytest.param(
            "31/01/2026 12:00",
            {"dates": "%d/%m/%Y %H:%M", "time_zone": "Asia/Ho_Chi_Minh"},
            "2026-01-31T05:00:00Z",
            id="day first, with a zone",
        ),
        pytest.param(
            "01/02/2026",
            {"dates": "%m/%d/%Y", "time_zone": "America/New_York"},
            "2026-01-02T05:00:00Z",
            id="month first",
        ),
        pytest.param("2026-01-01", {"time_zone": "Asia/Tokyo"}, "2025-12-31T15:00:00Z", id="iso day, with a zone"),
        pytest.param(
            "1/2/2026", {"dates": ["iso", "%d/%m/%Y"], "time_zone": "UTC"}, "2026-02-01T00:00:00Z", id="second format"
        ),
        pytest.param(
            "25.10.2026 02:30",
            {"dates": "%d.%m.%Y %H:%M", "time_zone": "Europe/Berlin"},
            "2026-10-25T00:30:00Z",
            id="an hour that comes twice is the first",
        ),
        pytest.param(
            "29.03.2026 02:30",
            {"dates": "%d.%m.%Y %H:%M", "time_zone": "Europe/Berlin"},
            "no_such_time",
            id="an hour that never was",
        ),
        pytest.param("2026-01-01 12:00", {}, "no_time_zone", id="no offset and no zone"),
        pytest.param("31/01/2026", {}, "invalid_date", id="a format nobody told of"),
        pytest.param("2026-02-30T00:00:00Z", {}, "invalid_date", id="no such day"),
        pytest.param("0001-01-01T00:00:00+14:00", {}, "invalid_date", id="before all years"),
    ],
)
def test_times_are_read_as_told_and_in_their_zone(tmp_path: Path, cell: str, changes: Any, at: str) -> None:
    found = one(tmp_path, f"1;{cell};1.00", **changes)

    assert (found if isinstance(found, str) else found["placed_at"]) == at


@pytest.mark.parametrize(
    ("encoding", "bom"),
    [
        ("utf-8", b""),
        ("utf-8", b"\xef\xbb\xbf"),
        ("utf-16", b""),
        ("utf-16-le", b""),
        ("utf-16-le", b"\xff\xfe"),
        ("gb18030", b""),
        ("windows-1258", b""),
        ("shift_jis", b""),
    ],
)
def test_a_file_is_read_in_the_encoding_told(tmp_path: Path, encoding: str, bom: bytes) -> None:
    words = {"gb18030": "精华液", "shift_jis": "美容液", "windows-1258": "da\u0300u d\u01a1\u0301i"}
    word = words.get(encoding, "dầu dưỡng 精华液")
    path = written(tmp_path, bom + f"id,at,net,mã\n1,{AT},1.00,{word}\n".encode(encoding, "replace"))
    column = "mã" if encoding not in {"gb18030", "shift_jis", "windows-1258"} else None
    header = path.read_bytes().decode(encoding).lstrip("\ufeff").split("\n")[0].split(",")[3]

    [event] = read(path, a_mapping(encoding=encoding, line={"net": "net", "sku": column or header}))

    assert event["id"] == "1"
    assert event["lines"][0]["sku"] == {"windows-1258": "dàu dới"}.get(encoding, word)


@pytest.mark.parametrize(
    ("content", "encoding", "word"),
    [
        pytest.param("id,at,net\n1,é,1\n".encode("latin-1"), "utf-8", "byte 12 (near line 2)", id="not utf-8"),
        pytest.param("id,at,net\n".encode("utf-16"), "utf-8", 'set "utf-16"', id="utf-16 with its mark"),
        pytest.param("id,at,net\n".encode("utf-16-le"), "utf-16", "utf-16-le", id="utf-16 without its mark"),
        pytest.param(b"\xef\xbb\xbfid,at,net\n", "gb18030", 'set "utf-8"', id="utf-8 with its mark"),
        pytest.param("id,at,net\n1,精".encode()[:-1], "utf-8", "byte 12", id="cut in a character"),
        pytest.param(b"", "utf-8", "empty", id="empty"),
    ],
)
def test_a_file_in_another_encoding_is_refused_at_once_with_the_way_out(
    tmp_path: Path, content: bytes, encoding: str, word: str
) -> None:
    with pytest.raises(InvalidImportFile) as refused:
        measure(written(tmp_path, content), a_mapping(encoding=encoding))

    assert word in refused.value.detail


@pytest.mark.parametrize(
    ("header", "words"),
    [
        pytest.param("id,at,price", ["[line] net", "'net'", "'price'", '{ value = "net" }'], id="missing column"),
        pytest.param("id,at,net,net", ["2 columns 'net'"], id="a column twice"),
        pytest.param("id;at;net", ["only one", "delimiter"], id="another delimiter"),
    ],
)
def test_a_header_that_does_not_fit_names_the_column(tmp_path: Path, header: str, words: list[str]) -> None:
    with pytest.raises(InvalidMapping) as refused:
        measure(written(tmp_path, f"{header}\n"), a_mapping())

    assert all(word in refused.value.detail for word in words)


def test_quotes_and_line_ends_in_cells_belong_to_the_cell(tmp_path: Path) -> None:
    path = written(tmp_path, f'id,at,net,sku\r\n"1",{AT},1.00,"two\r\nlines, ""quoted"""\r\n\r\n2,{AT},2.00,x\r\n')

    first, second = read(path, a_mapping(line={"net": "net", "sku": "sku"}))

    assert first["lines"][0]["sku"] == 'two\r\nlines, "quoted"'
    assert second["id"] == "2"


def test_a_bad_row_is_refused_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_rows, "ROW_MAX", 200)
    rows = [f"1,{AT},1.00", f"2,{AT}", f'3,{AT},"1"x', f"4,{AT},\0", f"5,{AT},{'9' * 300}", f"6,{AT},1.00"]
    path = written(tmp_path, "\n".join(["id,at,net", *rows]) + "\n")

    found = read(path, a_mapping())

    assert [each if isinstance(each, str) else each["id"] for each in found] == [
        "1",
        "row_shape",
        "unreadable_row",
        "unreadable_row",
        "row_too_long",
        "6",
    ]


def test_rows_of_an_order_are_brought_together_wherever_they_stand(tmp_path: Path) -> None:
    path = written(tmp_path, f"id,at,net\n1,{AT},1.00\n2,{AT},2.00\n1,,3.00\n")

    items = list(items_of(path, a_mapping(rows="line", group="id")))

    first, second = (json.loads(item.body) for item in items)  # type: ignore[union-attr] # both are events
    assert [line["net"] for line in first["lines"]] == ["1.00", "3.00"]
    assert second["id"] == "2"
    assert [(item.row, item.rows) for item in items] == [(2, 2), (3, 1)]


@pytest.mark.parametrize(
    ("bad", "refused"),
    [
        pytest.param("1,,x", ["1"], id="a bad cell"),
        pytest.param("1,", ["1"], id="of the wrong shape"),
        pytest.param(",,1.00", ["1", "2"], id="of nobody knows whom"),
        pytest.param('"1"x,,1.00', ["1", "2"], id="unreadable"),
    ],
)
def test_an_order_that_lacks_a_row_is_refused_and_not_made_smaller(
    tmp_path: Path, bad: str, refused: list[str]
) -> None:
    path = written(tmp_path, f"id,at,net\n0,{AT},1.00\n1,{AT},1.00\n{bad}\n2,{AT},2.00\n3,{AT},3.00\n")

    found = read(path, a_mapping(rows="line", group="id"))

    assert [each["id"] for each in found if isinstance(each, dict)] == [
        name for name in ("0", "1", "2", "3") if name not in refused
    ]


def test_a_group_that_is_no_order_is_refused_and_takes_no_more_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_rows, "LINES_MAX", 3)
    rows = [f"{number},{AT},1.00,web" for number in range(5)]
    path = written(tmp_path, "\n".join(["id,at,net,channel", *rows]))

    [refused] = items_of(path, a_mapping(rows="line", group="channel"))

    assert isinstance(refused, Refused)
    assert (refused.reason_code, refused.row, refused.rows) == ("too_many", 2, 5)


def test_who_wants_to_leave_may_while_rows_are_brought_together(tmp_path: Path) -> None:
    def leave() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(items_of(written(tmp_path, f"id,at,net\n1,{AT},1\n"), a_mapping(rows="line", group="id"), pause=leave))


def test_words_flags_and_skipped_rows_follow_the_mapping(tmp_path: Path) -> None:
    order: JsonObject = ORDER | {
        "cancelled": {"column": "status", "map": {"void": True, "paid": False}},
        "number": {"column": "id", "prefix": "#"},
        "coupon_codes": {"column": "codes", "split": "|"},
    }
    rows = [f"1,{AT},1.00,void,A | B", f"2,{AT},1.00,paid,", f"3,{AT},1.00,lost,", f"4,{AT},1.00,draft,"]
    path = written(tmp_path, "\n".join(["id,at,net,status,codes", *rows]))

    found = read(path, a_mapping(order=order, skip={"status": ["draft"]}))

    assert (found[0]["cancelled"], found[0]["number"], found[0]["coupon_codes"]) == (True, "#1", ["A", "B"])
    assert found[1]["cancelled"] is False
    assert "coupon_codes" not in found[1]
    assert found[2:] == ["unknown_word", "skipped"]


def test_a_discount_on_the_whole_order_comes_off_its_goods_to_the_last_cent(tmp_path: Path) -> None:
    line = {"net": {"column": "price", "times": "quantity"}, "kind": "kind"}
    rows = [f"1,{AT},10.00,1,,1.00", "1,,10.00,1,,", "1,,10.00,1,,", "1,,4.90,1,shipping,"]
    path = written(tmp_path, "\n".join(["id,at,price,quantity,kind,off", *rows]))
    order = ORDER | {"lines_less": "off"}

    [event] = read(path, a_mapping(rows="line", group="id", order=order, line=line))
    too_much = read(written(tmp_path, f"id,at,net,off\n1,{AT},1.00,1.01\n"), a_mapping(order=order))

    come_to = written(tmp_path, "\n".join(["id,at,price,quantity,kind,sum", *rows]).replace(",1.00\n", ",29.00\n"))
    order_of_sum = ORDER | {"lines_come_to": "sum"}
    [same] = read(come_to, a_mapping(rows="line", group="id", order=order_of_sum, line=line))

    assert [each["net"] for each in event["lines"]] == ["9.66", "9.67", "9.67", "4.90"]
    assert same == event
    assert too_much == ["discount_above_lines"]


def test_a_product_is_rounded_once(tmp_path: Path) -> None:
    found = one(tmp_path, f"1;{AT};12.99;0.5", "id;at;price;count", line={"net": {"column": "price", "times": "count"}})

    assert found["lines"][0]["net"] == "6.50"


def test_versions_can_yield_to_webhooks_and_be_revised(tmp_path: Path) -> None:
    plain, yielding, revised = (
        one(tmp_path, f"1;{AT};1.00", **changes)["updated_at"]
        for changes in ({}, {"yields": True}, {"yields": True, "revision": 2})
    )

    assert yielding < revised < plain == AT
    assert revised == "2026-01-01T11:59:59.999002Z"


def test_json_lines_are_events_as_they_are_or_mapped_by_their_keys(tmp_path: Path) -> None:
    event = b'{"type":"status",  "order_id":"1"}'
    as_is = written(tmp_path, b"\xef\xbb\xbf" + event + b"\n\n[1]\n", "events.ndjson")
    mapped = written(
        tmp_path, f'{{"id": 9007199254740993, "at": "{AT}", "sum": {{"net": 1.50}}}}\n{{"id": 1, "id": 2}}\n'
    )

    passed = list(items_of(as_is, read_mapping({"format": "ndjson"})))
    first, second = read(mapped, a_mapping(format="ndjson", line={"net": "sum.net"}))

    assert [item.body for item in passed] == [event, b"[1]"]  # type: ignore[union-attr] # both are events
    assert (first["id"], first["lines"][0]["net"], second) == ("9007199254740993", "1.50", "invalid_json")


def test_a_key_that_no_json_line_has_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, f'{{"id": "1", "at": "{AT}"}}\n')

    with pytest.raises(InvalidMapping, match=r"\[line\] net: no line of the file has 'net'"):
        measure(path, a_mapping(format="ndjson"))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        pytest.param({}, "[order], [refund] or [status]", id="nothing"),
        pytest.param({"order": ORDER}, "[line] lacks net", id="no lines"),
        pytest.param({"order": {"id": "id"}, "line": {"net": "n"}}, "updated_at, placed_at, currency", id="no times"),
        pytest.param({"decimals": ","}, "decimals: is no key here", id="a key that is none"),
        pytest.param({"order": ORDER | {"colour": "x"}}, "[order] colour", id="a field that is none"),
        pytest.param({"decimal": ";"}, "decimal: takes one of", id="decimal sign"),
        pytest.param({"decimal": ",", "thousands": ","}, "cannot be the same", id="one sign for both"),
        pytest.param({"encoding": "rot13"}, "encoding: 'rot13'", id="encoding"),
        pytest.param({"delimiter": ",,"}, "delimiter: takes one", id="delimiter"),
        pytest.param({"dates": "%d/%m/%Y"}, "time_zone: is needed", id="no zone"),
        pytest.param({"dates": "%d/%m"}, "year, month and day", id="half a date"),
        pytest.param({"time_zone": "Mars/Olympus"}, "IANA name", id="zone"),
        pytest.param({"order": ORDER, "rows": "line"}, "group: goes with", id="no group"),
        pytest.param({"order": ORDER | {"currency": {"value": "XXX"}}}, "ISO 4217", id="currency"),
        pytest.param({"order": ORDER | {"id": {"column": "a", "value": "b"}}}, "exactly one of", id="two ways"),
        pytest.param({"order": ORDER | {"id": {"latest": ["a"]}}}, "latest: is no key", id="a way of another kind"),
        pytest.param({"order": ORDER | {"cancelled": {"column": "a", "map": {"x": "y"}}}}, "true or false", id="map"),
        pytest.param({"order": ORDER | {"test": 1}}, "name of a column", id="a number for a column"),
        pytest.param({"order": ORDER, "revision": 901}, "revision: takes", id="revision"),
        pytest.param(
            {"order": ORDER, "line": {"net": "n"}, "status": {"order_id": "id"}}, "[status] beside", id="both"
        ),
        pytest.param(
            {"order": ORDER | {"lines_less": "a", "lines_come_to": "b"}, "line": {"net": "n"}},
            "one of them",
            id="twice",
        ),
        pytest.param({"status": {"order_id": "id"}}, "at least one of", id="no milestone"),
        pytest.param(
            {"refund": {"id": "i", "order_id": "o", "currency": "c", "refunded_at": "a"}}, "amount", id="free"
        ),
        pytest.param({"format": "ndjson", "time_zone": "UTC"}, "nothing but encoding", id="events with more told"),
    ],
)
def test_a_mapping_that_makes_no_sense_names_the_key(document: JsonObject, words: str) -> None:
    with pytest.raises(InvalidMapping) as refused:
        read_mapping(document)

    assert words in refused.value.detail


@pytest.mark.parametrize(
    ("name", "content"),
    [("m.toml", "order = ["), ("m.json", "{"), ("m.json", "[]"), ("m.toml", b"\xff"), ("none.toml", None)],
)
def test_a_mapping_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: str | bytes | None) -> None:
    path = tmp_path / name if content is None else written(tmp_path, content, name)

    with pytest.raises(InvalidMapping, match=name):
        load_mapping(path)


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.toml")), ids=lambda path: path.stem)
def test_each_preset_reads_its_fixture_without_a_refusal(path: Path) -> None:
    found = read(FILES / f"{path.stem}.csv", load_mapping(path))

    assert len(found) > 1
    assert [each for each in found if isinstance(each, str) and each != "skipped"] == []


def test_shopifys_export_is_read_by_its_own_ids_and_discounts() -> None:
    first, second = read(FILES / "shopify.csv", preset("shopify"))

    assert (first["id"], first["number"], first["placed_at"]) == ("5551001", "#1001", "2026-01-01T05:00:00Z")
    assert first["updated_at"] == "2026-01-02T01:59:59.999001Z"
    assert [line["net"] for line in first["lines"]] == ["45.00", "45.00"]
    assert (first["coupon_codes"], first["cancelled"]) == (["ANN"], False)
    assert (second["cancelled"], second["lines"][0]["net"]) == (True, "10.00")
    assert first["customer"] == {
        "email": "buyer@example.com",
        "phone": "0912 345 678",
        "country": "VN",
        "address": {
            "line1": "1 Example Street",
            "line2": "Room 2",
            "postal_code": "'700000",
            "city": "Exampleville",
            "country": "VN",
        },
    }
    assert second["customer"] == {"email": "other@example.com", "phone": "'+65 9123 4567", "country": "SG"}


def test_our_own_csv_also_takes_what_its_mapping_leaves_out_at_first(tmp_path: Path) -> None:
    written_out = (PRESETS / "generic.toml").read_text(encoding="utf-8")
    whole = re.sub(r"(?m)^# (?=\w+ = |\[)", "", written_out)
    columns = {
        "virtual_payment": "5.00",
        "country": "VN",
        "payment_fingerprint": "fp_1",
        "address_line1": "Lê Lợi",
        "address_line2": "",
        "address_house": "12",
        "address_postal_code": "700000",
        "address_city": "",
    }
    header, first, *_ = (FILES / "generic.csv").read_text(encoding="utf-8").splitlines()
    file = written(tmp_path, f"{header},{','.join(columns)}\n{first},{','.join(columns.values())}\n")

    order, _ = read(file, load_mapping(written(tmp_path, whole, "whole.toml")))

    assert order["virtual_payment"] == "5.00"
    assert order["customer"] == {
        "id": "c-1",
        "email": "buyer@example.com",
        "country": "VN",
        "payment_fingerprint": "fp_1",
        "address": {"line1": "Lê Lợi", "house": "12", "postal_code": "700000"},
    }
    snapshot = generic.translate(Delivery("1", "", json.dumps(order).encode()), READING).facts[0].body
    assert isinstance(snapshot, OrderSnapshot)
    assert (snapshot.country, snapshot.virtual_minor) == ("VN", 500)
    assert [kind for kind, _ in snapshot.customer] == ["address", "email", "id", "payment"]


def test_tiktoks_export_is_read_with_its_refund() -> None:
    order, refund, skipped = read(FILES / "tiktok-shop.csv", preset("tiktok-shop"))

    assert order["id"] == refund["order_id"] == "576460000000000001"
    assert [line["net"] for line in order["lines"]] == ["250000", "20000"]
    assert order["customer"] == {"country": "VN"}
    assert order["milestones"]["delivered_at"] == "2026-01-04T08:00:00Z"
    assert (refund["amount"], refund["currency"], skipped) == ("50000", "VND", "skipped")
