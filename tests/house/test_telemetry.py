"""Numbers and log lines are those that docs/telemetry.md lists, and what alerts and dashboard ask for exists."""

import ast
import json
import re
from collections.abc import Iterator

import pytest
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from service.api import gauges
from service.infra import metrics
from tests.support.house import ROOT, nodes, place, python_files

PAGE = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "koc.json"
IDENTITIES = {"merchant", "merchant_id", "affiliate", "affiliate_id", "payee_id", "order_id", "path", "email"}


def numbers() -> dict[str, tuple[str, set[str]]]:
    """Map the name of each number, as it is exposed, to its type and labels."""
    found = {}
    for one in vars(metrics).values():
        if isinstance(one, MetricWrapperBase):
            kind = next(kind for kind in (Counter, Gauge, Histogram) if isinstance(one, kind))
            [family] = one.describe()
            name = family.name + ("_total" if kind is Counter else "")
            found[name] = (kind.__name__.lower(), set(one._labelnames))
    asked = [gauge for question in gauges.QUESTIONS for gauge in question.gauges]
    return found | {gauge.name: ("gauge", set(gauge.labels)) for gauge in [*asked, gauges.READ]}


def test_every_number_is_on_the_page_with_type_and_labels() -> None:
    rows = re.findall(r"^\| `(koc_\w+)` \| (\w+) \|([^|]*)\| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)

    listed = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _, _ in rows}

    assert len(rows) == len(listed)
    assert listed == numbers()


def test_no_label_names_anybody() -> None:
    assert {label for _, labels in numbers().values() for label in labels} & IDENTITIES == set()


def log_lines() -> Iterator[tuple[str, str, str]]:
    """Yield (place, text, level) of each line the service may log by a logger of its own."""
    for path in python_files("service"):
        for node in nodes(path):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="_log"), attr=level), args=[first, *_]):
                    assert isinstance(first, ast.Constant), f"{place(path, node)}: say what the line is"
                    yield place(path, node), str(first.value), "error" if level == "exception" else level


def test_every_log_line_is_on_the_page_with_its_level() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (debug|info|warning|error|critical) \| [^|]+ \|$", PAGE, re.MULTILINE)
    lines = [(text, level) for _, text, level in log_lines()]

    assert lines
    assert sorted(rows) == sorted(set(lines))


def expressions() -> list[str]:
    """What alerts and dashboard ask for."""
    alerts = [text.replace("''", "'") for text in re.findall(r"^ +expr: '(.+)'$", ALERTS.read_text(), re.MULTILINE)]
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [*alerts, *(target["expr"] for panel in panels for target in panel["targets"])]


def parts(name: str) -> tuple[str, set[str]]:
    """The number behind the name of a sample, and the labels the sample has."""
    known = numbers()
    for suffix in ("_bucket", "_sum", "_count"):
        whole = name.removesuffix(suffix)
        if whole != name and known.get(whole, ("", set()))[0] == "histogram":
            return whole, known[whole][1] | ({"le"} if suffix == "_bucket" else set())
    assert name in known, f"there is no number {name}"
    assert known[name][0] != "histogram", f"{name} is a histogram: take _bucket, _sum or _count"
    return name, known[name][1]


@pytest.mark.parametrize("expression", expressions())
def test_what_alerts_and_dashboard_ask_for_exists(expression: str) -> None:
    samples = re.findall(r"\b(koc_\w+)(?:\{([^}]*)\})?", expression)
    grouped = set(re.findall(r"\w+", " ".join(re.findall(r"\bby \(([^)]*)\)", expression))))

    assert samples
    for name, matchers in samples:
        _, labels = parts(name)
        assert set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", matchers)) <= labels
        assert grouped <= labels


def test_every_number_is_on_the_dashboard() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    shown = {
        parts(name)[0]
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(r"\bkoc_\w+", target["expr"])
    }

    assert shown == numbers().keys()


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    alerts = ALERTS.read_text().split("      - alert: ")[1:]

    assert len(alerts) == len({each.split("\n")[0] for each in alerts})
    for each in alerts:
        assert re.search(r"^ +expr: '.+'$", each, re.MULTILINE)
        assert re.search(r"^ +severity: (page|ticket)$", each, re.MULTILINE)
        assert '          summary: "' in each
        assert '          description: "' in each
