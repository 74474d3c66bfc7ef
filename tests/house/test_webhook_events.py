"""The closed list of event types is the one that is described, documented and told."""

import ast
import re

from service.api.webhook_events import DATA, webhooks
from service.domain.events import EventType, chosen
from tests.support.house import ROOT, nodes, python_files

PAGE = (ROOT / "docs" / "webhooks-out.md").read_text(encoding="utf-8")


def test_each_type_is_described_by_its_payload() -> None:
    assert set(DATA) == set(EventType)
    assert list(webhooks()) == [each.value for each in EventType]


def test_the_page_lists_each_type_with_what_it_says() -> None:
    rows = re.findall(r"^\| `([a-z_.]+)` \| (.*) \| (.*) \|$", PAGE, flags=re.MULTILINE)

    assert rows == [
        (each.value, each.meaning, ", ".join(f"`{name}`" for name in DATA[each].model_fields)) for each in EventType
    ]


def test_each_type_is_told_somewhere() -> None:
    """By its member, or by its noun with the verb as a word beside it, as payouts and affiliates tell theirs."""
    named: set[str] = set()
    words: set[str] = set()
    for path in python_files("service"):
        if path.name in {"events.py", "webhook_events.py"}:
            continue
        for node in nodes(path):
            match node:
                case ast.Attribute(value=ast.Name(id="EventType"), attr=name):
                    named.add(EventType[name].value)
                case ast.Constant(value=str(word)) if word.isidentifier():
                    words.add(word)

    told_by_verb = {each for noun in ("payout", "payout_run", "affiliate") for each in chosen(f"{noun}.*")}
    assert {each for each in EventType if each not in told_by_verb} <= named
    assert {each.partition(".")[2] for each in told_by_verb if each.value not in named} <= words
