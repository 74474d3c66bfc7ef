"""docs/webhooks.md: its examples are what the adapters read. Its recipes are run in tests/journeys/test_docs.py."""

import json
import re
from pathlib import Path

import pytest

from service.infra.strict_json import DEPTH_MAX
from service.intake.adapters import generic, parse
from service.intake.adapters.model import Delivery
from tests.support.webhooks import READING

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "webhooks.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("body", blocks("json"), ids=lambda body: json.loads(body)["type"])
def test_each_example_is_understood_and_has_effect(body: str) -> None:
    translation = generic.translate(Delivery("msg_1", "", body.encode()), READING)

    assert translation.order_id == "1001"
    assert translation.facts
    assert translation.ignored is None


def test_there_is_an_example_of_each_event() -> None:
    assert [json.loads(body)["type"] for body in blocks("json")] == ["order", "refund", "refund", "dispute", "status"]


def test_each_reason_is_on_the_page() -> None:
    adapters = ROOT / "service" / "intake" / "adapters"
    source = "".join(path.read_text() for path in adapters.glob("*.py"))
    codes = set(re.findall(r'NotUnderstood\(\s*"(\w+)"', source)) | {"test_order", "topic_without_effect"}

    assert {code for code in codes if f"`{code}`" not in PAGE} == set()


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    assert f"{parse.LINES_MAX:,} lines, {parse.TOUCHES_MAX} click ids" in PAGE
    assert f"{DEPTH_MAX} levels of JSON" in PAGE
