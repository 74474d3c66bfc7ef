"""The README's tour and every example of the pages in docs/, pasted into a shell as a new user would."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
from standardwebhooks import Webhook

from service.infra.standard_webhooks import new_secret
from tests.support import running
from tests.support.house import ROOT
from tests.support.pages import PAGES, README, SHELL, Desk, blocks, name_of, runs

NOT_RUN = {
    "$ KOC_STRIPE_SECRET_KEY=sk_test_double KOC_STRIPE_API_BASE=$STRIPE .venv/bin/koc serve --with-worker": "never ends",
    "$ KOC_WEBHOOK_ALLOW_NETWORKS=127.0.0.0/8,::1/128 .venv/bin/koc serve --with-worker": "never ends",
    "$ OTEL_SERVICE_NAME=koc OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 koc serve": "never ends",
}
"""Blocks that show commands and are not run, and why."""

_COMMAND = re.compile(r"\b(?:curl|koc) ")
_IN_A_SENTENCE = re.compile(r"`(?:\$ )?curl [^`]*`")
_PARKED = re.compile(r'[^{}]*"state":"parked"[^{}]*')


def shell_of(page: Path) -> str:
    return "\n".join(block.text for block in blocks(page) if block.language in SHELL)


@dataclass(frozen=True)
class Toured:
    """A reader who has taken the README's tour, and what it printed."""

    desk: Desk
    said: str


@pytest.fixture(scope="module")
def toured(
    new_database: Callable[..., AbstractContextManager[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Toured]:
    folder = tmp_path_factory.mktemp("docs")
    with new_database() as url, running.service(url, log=folder / "serve.log") as service:
        desk = Desk.made(folder, service.environment | {"KOC": service.url})
        yield Toured(desk, desk.paste(README, keep=True))


def test_the_tour_of_the_readme_works_when_pasted(toured: Toured) -> None:
    assert '"state":"waiting"' in toured.said
    assert '"target_minor":31250' in toured.said
    assert "31250" in toured.said.rsplit("paid", 1)[1]


@pytest.mark.parametrize("page", [page for page in PAGES if any(map(runs, blocks(page)))], ids=name_of)
def test_the_examples_of_a_page_work_when_pasted_after_the_tour(page: Path, toured: Toured) -> None:
    said = toured.desk.paste(page)

    # What is parked is answered with 2xx, and meant where the page speaks of it.
    assert "parked" in shell_of(page) or _PARKED.findall(said) == []


def test_the_receiver_that_is_shown_takes_what_is_signed_and_nothing_else(tmp_path: Path) -> None:
    [shown] = [block.text for block in blocks(ROOT / "docs" / "webhooks-out.md") if "serve_forever" in block.text]
    port, secret, now = running.free_port(), new_secret(), datetime.now(UTC)
    (tmp_path / "receiver.py").write_text(shown.replace("9000", str(port)), encoding="utf-8")
    body = b'{"type": "webhook_endpoint.ping"}'
    signature = Webhook(secret).sign("evt_1", now, body.decode())
    signed = {"webhook-id": "evt_1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}

    with subprocess.Popen([sys.executable, "receiver.py"], cwd=tmp_path, env={"ENDPOINT_SECRET": secret}) as receiver:
        try:
            with httpx2.Client(transport=httpx2.HTTPTransport(retries=8)) as client:
                answers = [
                    client.post(f"http://127.0.0.1:{port}/", content=body, headers=each) for each in (signed, {})
                ]
        finally:
            receiver.terminate()

    assert [answer.status_code for answer in answers] == [204, 401]


def test_no_page_shows_a_command_that_is_not_run() -> None:
    shown = {
        block.text: f"{name_of(page)}:{block.line}"
        for page in PAGES
        for block in blocks(page)
        if not runs(block) and _COMMAND.search(block.text)
    }
    mentioned = {name_of(page): _IN_A_SENTENCE.findall(page.read_text(encoding="utf-8")) for page in PAGES}

    assert [place for text, place in shown.items() if text not in NOT_RUN] == [], "make it bash, or say why not"
    assert {page: requests for page, requests in mentioned.items() if requests} == {}, "make it a block of bash"
    assert set(NOT_RUN) - set(shown) == set()


def test_a_request_that_is_refused_ends_its_example() -> None:
    """Without --fail-with-body curl is content with any answer; where a page shows a refusal, grep looks for it."""
    lenient = [
        f"{name_of(page)}:{block.line}: curl {request.splitlines()[0]}"
        for page in [README, *PAGES]
        for block in blocks(page)
        if block.language in SHELL
        for request in re.split(r"\bcurl ", block.text)[1:]
        if "--fail-with-body" not in request and "| grep" not in request
    ]

    assert lenient == []


def test_a_page_whose_examples_follow_the_tour_says_so() -> None:
    follow = []
    for page in PAGES:
        shell = shell_of(page)
        if re.search(r"\$KOC\b|\bapi \"", shell) and not re.search(r"^KOC=", shell, re.MULTILINE):
            follow.append(page)

    assert follow
    assert [
        name_of(page) for page in follow if "README.md#a-tour-in-five-minutes)" not in page.read_text(encoding="utf-8")
    ] == []
