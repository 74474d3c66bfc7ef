"""GET /llms.txt: what language models are told, and that all it names is there."""

import json
import re
from typing import Any

from starlette.testclient import TestClient

from service.domain.commission import CommissionStatus
from service.domain.payout import ItemState, RunState
from service.tables.orders import InboxState
from service.tables.parties import AffiliateStatus, Platform, Scope
from tests.support.house import ROOT
from tests.support.shop import Shop


def told(client: TestClient) -> str:
    answer = client.get("/llms.txt")
    assert answer.status_code == 200
    return answer.text


def states_of(text: str, thing: str) -> set[str]:
    """The words in code of a line of the section on states."""
    [line] = re.findall(rf"^- {thing}: (.*(?:\n  .*)*)", text, re.MULTILINE)
    return set(re.findall(r"`([a-z_]+)`", line))


def test_anybody_gets_it_as_plain_text(client: TestClient) -> None:
    answer = client.get("/llms.txt")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "max-age" in answer.headers["cache-control"]


def test_it_has_the_parts_that_llmstxt_org_names_in_their_order(client: TestClient) -> None:
    lines = [line for line in told(client).splitlines() if line]
    sections = [index for index, line in enumerate(lines) if line.startswith("## ")]

    assert lines[0].startswith("# ")
    assert lines[1].startswith("> ")
    assert len([line for line in lines if line.startswith("# ")]) == 1
    assert sections
    for line in lines[sections[0] :]:
        assert re.fullmatch(r"## .+|- \[[^\]]+\]\([^)]+\): .+", line), line


def test_its_links_lead_somewhere(client: TestClient, shop: Shop) -> None:
    links = re.findall(r"\]\(([^)]+)\)", told(client))

    assert "/openapi.json" in links
    for link in links:
        assert client.get(link).status_code == 200, link


def test_the_guides_it_names_are_in_the_repository(client: TestClient) -> None:
    named = re.findall(r"`((?:docs/)?[A-Za-z-]+\.md)`", told(client))

    assert "docs/webhooks.md" in named
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_the_operations_it_names_exist(client: TestClient) -> None:
    described: dict[str, Any] = client.get("/openapi.json").json()["paths"]
    known = {re.sub(r"\{[^}]*\}", "{}", path): operations for path, operations in described.items()}
    named = re.findall(r"`(GET|POST|PUT) (/[^\s`?]+)", told(client))

    assert len(named) > 10
    for method, path in named:
        assert method.lower() in known.get(re.sub(r"\{[^}]*\}", "{}", path), {}), f"{method} {path}"


def test_the_states_it_lists_are_all_there_are(client: TestClient) -> None:
    text = told(client)

    assert states_of(text, "Payout run") == {*RunState}
    assert states_of(text, "Affiliate") == {*AffiliateStatus}
    assert states_of(text, "Payout") == {*ItemState}
    assert states_of(text, "Commission") >= {*CommissionStatus}
    assert {*InboxState} <= states_of(text, "Order")
    assert {f"`{scope}`" for scope in Scope} <= set(re.findall(r"`[a-z-]+`", text))
    assert {f"`{each}`" for each in Platform if each != "desk"} <= set(re.findall(r"`[a-z_]+`", text)) | {"`generic`"}


def test_a_shop_that_sends_its_examples_is_understood(client: TestClient, shop: Shop) -> None:
    [block] = re.findall(r"```json\n(.*?)```", told(client), re.DOTALL)
    decoder, examples = json.JSONDecoder(), []
    while block.strip():
        example, end = decoder.raw_decode(block.lstrip())
        examples.append(example)
        block = block.lstrip()[end:]

    answers = [shop.deliver(example) for example in examples]

    assert [example["type"] for example in examples] == ["order", "refund", "status", "dispute"]
    assert [(answer.status_code, answer.json()["state"]) for answer in answers] == [(200, "applied")] * 4
