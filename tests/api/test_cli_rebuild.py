"""`koc check-books --rebuild`: what it says, how it ends, and that it leaves nothing behind."""

import base64
import hmac
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack

import pytest
from psycopg import sql
from sqlalchemy import Engine, make_url

from service.infra.db import execute, unit_of_work
from service.rebuild import database
from tests.api.test_cli import PATIENCE_S, ROOT, environment, koc
from tests.support.databases import connect, conninfo
from tests.support.shop import Shop
from tests.support.webhooks import body_of

WOO_SECRET = "0123456789abcdef-secret"  # of a shop that exists in tests only
NewDatabase = Callable[..., AbstractContextManager[str]]


def scratch_of(database_url: str) -> list[str]:
    """Names of the databases made beside this one to make its books again."""
    begins = f"koc_rebuild_{make_url(database_url).database}_"
    with connect(database_url) as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (begins,))
        return [name for (name,) in rows]


def an_order(shop: Shop) -> None:
    shop.an_order("order-1", coupon_codes=[shop.a_coupon(shop.an_affiliate())["code"]])


def test_books_made_again_come_out_the_same_and_leave_nothing_behind(shop: Shop, database_url: str) -> None:
    an_order(shop)

    answer = koc("check-books", "--rebuild", env=environment(database_url))

    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert f"Made {shop.id} again: 1 deliveries, 0 payouts, no difference" in answer.stdout
    assert "The books agree." in answer.stdout
    assert scratch_of(database_url) == []


def test_a_database_named_among_the_parameters_of_its_address_is_only_read(shop: Shop, database_url: str) -> None:
    an_order(shop)
    live = make_url(database_url)
    url = live.update_query_dict({"dbname": str(live.database)}).render_as_string(hide_password=False)

    answer = koc("check-books", "--rebuild", env=environment(url))

    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert scratch_of(database_url) == []


def test_what_comes_out_differently_is_named_and_counted(shop: Shop, engine: Engine, database_url: str) -> None:
    an_order(shop)
    with unit_of_work(engine) as session:
        execute(session, "UPDATE inbox SET state = 'ignored', reason_code = 'test_order'")

    answer = koc("check-books", "--merchant", shop.id, "--rebuild", env=environment(database_url))

    assert answer.returncode == 1
    assert "rebuilt-target" in answer.stdout
    assert "2 rebuilt-fact" in answer.stdout
    assert "order order-1" in answer.stdout
    assert scratch_of(database_url) == []


def test_books_can_be_made_again_in_a_database_that_is_kept(
    shop: Shop, database_url: str, new_database: NewDatabase
) -> None:
    an_order(shop)

    with new_database(migrated=False) as url:
        answer = koc("check-books", "--rebuild", "--into", conninfo(url), env=environment(database_url))
        with connect(url) as connection:
            made = connection.execute("SELECT external_id FROM orders").fetchall()

    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert made == [("order-1",)]


def test_a_database_with_tables_is_refused_and_left_alone(database_url: str, new_database: NewDatabase) -> None:
    with new_database(migrated=True) as url, connect(url) as connection:
        answer = koc("check-books", "--rebuild", "--into", url, env=environment(database_url))
        merchants = connection.execute("SELECT count(*) FROM merchant").fetchone()

    assert answer.returncode == 2
    assert "has tables already" in answer.stderr
    assert merchants == (0,)


def test_the_live_database_is_refused(database_url: str) -> None:
    answer = koc("check-books", "--rebuild", "--into", database_url, env=environment(database_url))

    assert answer.returncode == 2
    assert "is to be checked" in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--into", "postgresql:///other"), "--rebuild"),
        (("--rebuild", "--into", "nonsense"), "postgresql://"),
        (("--rebuild", "--into", "mysql://host/name"), "postgresql://"),
        (("--rebuild", "--into", "postgresql://nobody@localhost:1/none"), "cannot be reached"),
    ],
    ids=["into alone", "no address", "another kind", "nobody there"],
)
def test_what_cannot_be_meant_is_a_mistake_of_the_caller(
    database_url: str, arguments: tuple[str, ...], word: str
) -> None:
    answer = koc("check-books", *arguments, env=environment(database_url))

    assert answer.returncode == 2
    assert word in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.fixture
def reader(database_url: str) -> Iterator[str]:
    """Yield the address of the database for a role that may read it and make nothing."""
    name, password = f"reader_{secrets.token_hex(4)}", secrets.token_hex(8)
    role = sql.Identifier(name)
    with connect(database_url) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(password)))
        connection.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}").format(role))
        try:
            yield (make_url(database_url).set(username=name, password=password).render_as_string(hide_password=False))
        finally:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
            connection.execute(sql.SQL("DROP ROLE {}").format(role))


def test_a_role_that_may_not_make_databases_is_told_the_way_out(reader: str) -> None:
    answer = koc("check-books", "--rebuild", env=environment(reader))

    assert answer.returncode == 2, answer.stdout + answer.stderr
    assert "--into" in answer.stderr


def test_a_role_that_may_only_read_can_have_the_books_made_elsewhere(
    shop: Shop, reader: str, new_database: NewDatabase
) -> None:
    an_order(shop)

    with new_database(migrated=False) as url:
        answer = koc("check-books", "--rebuild", "--into", url, env=environment(reader))

    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_a_database_that_cannot_be_dropped_is_named(database_url: str) -> None:
    template = "ALTER DATABASE {} IS_TEMPLATE {}"
    made = ExitStack()
    made.enter_context(database.beside(database_url))
    [name] = scratch_of(database_url)
    with connect(database_url) as connection:
        connection.execute(sql.SQL(template).format(sql.Identifier(name), sql.Literal(True)))

        with pytest.raises(database.NotDropped) as told:
            made.close()

        connection.execute(sql.SQL(template).format(sql.Identifier(name), sql.Literal(False)))
        connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))

    assert name in str(told.value)


def test_asked_to_end_it_drops_what_it_made(shop: Shop, database_url: str) -> None:
    an_order(shop)
    command = [sys.executable, "-m", "service.cli", "check-books", "--rebuild"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(database_url), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        ends = time.monotonic() + PATIENCE_S
        while not scratch_of(database_url):
            assert time.monotonic() < ends
            assert process.poll() is None
        process.terminate()
        returncode = process.wait(PATIENCE_S)
    finally:
        process.kill()
        process.wait()

    assert returncode == 130
    assert scratch_of(database_url) == []


def test_each_delivery_is_read_again_by_the_settings_it_was_read_by(shop: Shop, database_url: str) -> None:
    asked = {
        "platform": "woocommerce",
        "name": "Tea",
        "secret": WOO_SECRET,
        "settings": {"statuses": {"packed": "paid"}},
    }
    source = shop.post("/v1/sources", asked).json()["source"]
    body = json.dumps(
        body_of("woocommerce", "order_processing_tax_on_top") | {"status": "packed", "date_paid_gmt": None}
    )
    headers = {
        "x-wc-webhook-topic": "order.updated",
        "x-wc-webhook-delivery-id": "1",
        "x-wc-webhook-signature": base64.b64encode(hmac.digest(WOO_SECRET.encode(), body.encode(), "sha256")).decode(),
    }
    told = shop.client.post(f"/intake/{source['id']}", content=body, headers=headers).json()
    shop.put(f"/v1/sources/{source['id']}/settings", {"settings": {"statuses": {"packed": "cancelled"}}})

    answer = koc("check-books", "--rebuild", env=environment(database_url))

    assert told["state"] == "applied"
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert f"Made {shop.id} again: 1 deliveries, 0 payouts, no difference" in answer.stdout
