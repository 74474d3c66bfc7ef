"""A real Chromium, a shop's pages on this machine, and the service in a process of its own: `make browser`.

Without the driver, which lives beside the environment of all other tests, nothing here is collected.
"""

import importlib.util
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import running, site

if importlib.util.find_spec("playwright") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    from playwright.sync_api import sync_playwright

CHROMIUM = os.environ.get("KOC_TEST_CHROMIUM", "/usr/bin/chromium")


@pytest.fixture(scope="session")
def shop_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[site.Site]:
    """Yield the shop's web server; Chromium finds it under its name, with TLS as a shop has it."""
    with site.serve(tmp_path_factory.mktemp("tls")) as served:
        yield served


@pytest.fixture(scope="session")
def chromium(shop_site: site.Site) -> Iterator[Any]:
    """Yield a browser that finds our shops by name, and no other place at all."""
    ports = [f"MAP {host}:443 127.0.0.1:{shop_site.port}" for host in site.HOSTS]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                f"--host-resolver-rules={', '.join([*ports, 'MAP * ~NOTFOUND', 'EXCLUDE 127.0.0.1'])}",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def visitor(chromium: Any, shop_site: site.Site) -> Iterator[Any]:
    """Yield a browser window of somebody who was never here before; nothing may have gone wrong on its pages."""
    shop_site.forget()
    context = chromium.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.errors = []
    page.requests = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("request", lambda request: page.requests.append(request.url))
    yield page
    assert page.errors == []
    context.close()


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[running.Running]:
    """Yield a service that listens, with a worker."""
    with running.service(database_url, log=tmp_path / "serve.log") as service:
        yield service


@pytest.fixture
def operator_key(service: running.Running) -> str:
    """Return a key that makes merchants."""
    asked = [str(running.KOC), "operator-key", "--name", "browser"]
    return subprocess.run(asked, env=service.environment, capture_output=True, text=True, check=True).stdout.strip()
