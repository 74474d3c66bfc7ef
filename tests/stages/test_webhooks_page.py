"""docs/webhooks.md: its examples are what the adapters read, its recipes sign what they verify."""

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from service.infra.strict_json import DEPTH_MAX
from service.intake.adapters import generic, parse, standard_webhooks
from service.intake.adapters.model import Delivery
from tests.support.webhooks import READING

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "webhooks.md").read_text()
SECRET = standard_webhooks.new_secret()


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


def test_the_python_recipe_signs_what_we_verify() -> None:
    (recipe,) = blocks("python")
    names: dict[str, Any] = {}
    exec(recipe, names)  # noqa: S102 - our own page

    headers = names["headers_for"](SECRET, b'{"a": 1}')

    assert standard_webhooks.verify(SECRET.encode(), headers, b'{"a": 1}', datetime.now(UTC)).delivery_id.startswith(
        "msg_"
    )


@pytest.mark.skipif(not (shutil.which("openssl") and shutil.which("od")), reason="the recipe needs openssl and od")
def test_the_shell_recipe_signs_what_we_verify() -> None:
    (recipe,) = blocks("bash")
    # In place of curl: one line for each argument.
    script = 'curl() { printf "%s\\n" "$@"; }\n' + recipe

    sent = subprocess.run(
        ["bash", "-euc", script],
        env={"SECRET": SECRET, "WEBHOOK_URL": "http://localhost/intake/src_1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    headers = dict(line.split(": ", 1) for line in sent if line.startswith("webhook-"))

    delivery = standard_webhooks.verify(SECRET.encode(), headers, sent[-1].encode(), datetime.now(UTC))
    assert generic.translate(delivery, READING).order_id == "1001"
