"""The revisions make exactly the tables that the code describes, and each can be undone."""

import json
import re
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlmodel import SQLModel

import service.tables
from service.infra import ids, migrate
from service.infra.db import make_engine
from tests.support import databases

NewDatabase = Callable[..., AbstractContextManager[str]]


def dumped(url: str) -> list[str]:
    """Return the statements that make the schema, sorted, with the columns of a table sorted too.

    Alembic's own check overlooks CHECKs, enum members and the predicates of indexes; the server's dump does not.
    Order is not compared: a column added later stands last in one database and in its place in the other.
    """
    answer = subprocess.run(
        [
            databases.program("pg_dump"),
            "--schema-only",
            "--no-owner",
            "--exclude-table=alembic_version",
            databases.conninfo(url),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [
        line for line in answer.stdout.splitlines() if line and not line.startswith(("--", "\\", "SET ", "SELECT "))
    ]
    statements = re.split(r";\n", "\n".join(lines) + "\n")
    return sorted("\n".join(sorted(part.rstrip(",") for part in one.splitlines())) for one in statements if one.strip())


def test_every_revision_goes_up_down_and_up(new_database: NewDatabase) -> None:
    revisions = migrate.revisions()
    assert revisions
    with new_database(migrated=False) as url:
        empty = dumped(url)
        before = "base"
        for revision in revisions:
            below = dumped(url)
            migrate.upgrade(url, revision)
            first = dumped(url)

            migrate.downgrade(url, before)
            assert dumped(url) == below, f"{revision} leaves something behind"

            migrate.upgrade(url, revision)
            assert dumped(url) == first
            before = revision

        migrate.downgrade(url, "base")
        assert dumped(url) == empty


def test_the_migrated_database_is_the_one_the_tables_describe(new_database: NewDatabase) -> None:
    assert service.tables.__all__
    with new_database(migrated=True) as migrated, new_database(migrated=False) as described:
        engine = make_engine(described)
        SQLModel.metadata.create_all(engine)
        engine.dispose()

        wanted, found = dumped(described), dumped(migrated)

    missing = [one for one in wanted if one not in found]
    extra = [one for one in found if one not in wanted]
    assert (missing, extra) == ([], [])


def test_postings_of_the_first_release_get_their_bookings_in_the_order_they_were_made(
    new_database: NewDatabase,
) -> None:
    with new_database(migrated=False) as url:
        migrate.upgrade(url, "0001")
        with databases.connect(url) as connection:
            # Slot 1: two units of work, of which the first booked two postings. Slot 2: one. Slot 3: none that is left.
            connection.execute(
                """
                INSERT INTO posting (merchant_id, id, event, seq, debit_kind, debit_owner_id, credit_kind,
                                     credit_owner_id, currency, amount_minor, day, slot, created_at)
                SELECT CAST(repeat('0', 32) AS uuid), gen_random_uuid(), 'order/' || number, 0, 'commission_expense',
                       CAST(repeat('0', 32) AS uuid), 'pending', CAST(repeat('1', 32) AS uuid), 'USD', number,
                       DATE '2026-11-01', slot, TIMESTAMPTZ '2026-11-01 12:00Z' + second * INTERVAL '1 second'
                FROM (VALUES (1, 1, 5), (2, 1, 9), (3, 1, 5), (4, 2, 7)) AS made (number, slot, second)
                """
            )
            connection.execute(
                """
                INSERT INTO day_slot (merchant_id, day, slot, touched)
                SELECT CAST(repeat('0', 32) AS uuid), DATE '2026-11-01', slot, 40 FROM generate_series(1, 3) AS slot
                """
            )

        migrate.upgrade(url, "0002")

        with databases.connect(url) as connection:
            bookings = connection.execute("SELECT amount_minor, slot, booking FROM posting ORDER BY 1").fetchall()
            touched = connection.execute("SELECT slot, touched FROM day_slot ORDER BY 1").fetchall()
    assert bookings == [(1, 1, 1), (2, 1, 2), (3, 1, 1), (4, 2, 1)]
    assert touched == [(1, 2), (2, 1), (3, 0)]


def test_links_of_an_older_release_get_the_label_they_were_made_with(new_database: NewDatabase) -> None:
    revisions = migrate.revisions()
    with new_database(migrated=False) as url:
        migrate.upgrade(url, revisions[revisions.index("0012") - 1])
        with databases.connect(url) as connection:
            connection.execute(
                """
                INSERT INTO merchant (id, name, is_test, time_zone, clock_offset_s, created_at)
                VALUES (CAST(repeat('1', 32) AS uuid), 'Shop', true, 'UTC', 0, now());
                INSERT INTO program (merchant_id, id, name, allowed_domains, fallback_url, disclosure, created_at)
                SELECT id, id, 'Friends', '[]', '', '', now() FROM merchant;
                INSERT INTO affiliate (merchant_id, id, name, profile, identities, status, created_at, updated_at)
                SELECT id, id, 'Ann', '{}', '{}', 'approved', now(), now() FROM merchant;
                INSERT INTO link (merchant_id, id, program_id, affiliate_id, code, url, sub_ids, created_at, updated_at)
                SELECT id, id, id, id, 'ann', '', '{"sub1": "spring"}', TIMESTAMPTZ '2026-11-01 12:00Z', now() FROM merchant
                """
            )

        migrate.upgrade(url, "0012")

        with databases.connect(url) as connection:
            labels = connection.execute(
                "SELECT valid_from = TIMESTAMPTZ '2026-11-01 12:00Z', content_type, channel, sub_ids FROM link_label"
            ).fetchall()
            kinds = connection.execute("SELECT kind FROM affiliate").fetchall()
    assert labels == [(True, None, "", {"sub1": "spring"})]
    assert kinds == [("koc",)]


def test_methods_of_an_older_release_go_on_being_paid_to(new_database: NewDatabase) -> None:
    revisions = migrate.revisions()
    with new_database(migrated=False) as url:
        migrate.upgrade(url, revisions[revisions.index("0020") - 1])
        with databases.connect(url) as connection:
            connection.execute(
                """
                INSERT INTO merchant (id, name, is_test, time_zone, clock_offset_s, created_at)
                VALUES (CAST(repeat('1', 32) AS uuid), 'Shop', true, 'UTC', 0, now());
                INSERT INTO affiliate (merchant_id, id, name, profile, identities, status, created_at, updated_at)
                SELECT id, id, 'Ann', '{}', '{}', 'approved', now(), now() FROM merchant;
                INSERT INTO payout_method (merchant_id, id, affiliate_id, rail, destination, destination_hint,
                                           fingerprint, created_at)
                SELECT id, gen_random_uuid(), id, rail, 'sealed', '', rail || ' mark', now()
                FROM merchant, unnest(ARRAY['sandbox', 'stripe_connect']) AS rail
                """
            )

        migrate.upgrade(url, "0020")

        with databases.connect(url) as connection:
            methods = connection.execute(
                """
                SELECT rail, account_type, fingerprint, usable_from, by_affiliate, sharing_confirmed_at IS NOT NULL
                FROM payout_method ORDER BY rail
                """
            ).fetchall()
            chosen = connection.execute("SELECT method_wait_h, shared_accounts FROM merchant").fetchall()
    assert methods == [
        ("sandbox", "provider", "sandbox mark", None, False, True),
        ("stripe_connect", "provider", "stripe_connect mark", None, False, False),
    ]
    assert chosen == [(72, "hold")]


def test_the_comparison_sees_checks_and_predicates(new_database: NewDatabase) -> None:
    with new_database(migrated=False) as one, new_database(migrated=False) as other:
        for url, limit in ((one, 1), (other, 2)):
            with databases.connect(url) as connection:
                connection.execute("CREATE TABLE t (id bigint, amount_minor bigint)")
                connection.execute(f"ALTER TABLE t ADD CHECK (id > {limit})".encode())
                connection.execute(f"CREATE INDEX i ON t (id) WHERE id > {limit}".encode())

        different = set(dumped(one)) ^ set(dumped(other))

    assert len(different) == 4


def test_there_is_one_line_of_revisions_and_the_template_is_at_its_end(database_url: str) -> None:
    with databases.connect(database_url) as connection:
        rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()

    assert rows == [(migrate.revisions()[-1],)]


def test_whom_runs_of_an_older_release_left_out_get_rows(new_database: NewDatabase) -> None:
    ann = ids.new_id()
    told = [
        {
            "affiliate_id": ids.encode("aff", ann),
            "reason_code": "below_minimum",
            "payable_minor": 900,
            "carried_minor": 7,
        }
    ]
    revisions = migrate.revisions()
    with new_database(migrated=False) as url:
        migrate.upgrade(url, revisions[revisions.index("0027") - 1])
        with databases.connect(url) as connection:
            connection.execute(
                """
                INSERT INTO merchant (id, name, is_test, time_zone, clock_offset_s, created_at)
                VALUES (CAST(repeat('1', 32) AS uuid), 'Shop', true, 'UTC', 0, now())
                """
            )
            connection.execute(
                """
                INSERT INTO affiliate (merchant_id, id, name, profile, identities, status, created_at, updated_at)
                SELECT id, %s, 'Ann', '{}', '{}', 'approved', now(), now() FROM merchant
                """,
                [ann],
            )
            connection.execute(
                """
                INSERT INTO payout_run (merchant_id, id, status, rail, currency, pay_on, excluded, created_by, created_at)
                SELECT id, gen_random_uuid(), 'draft', 'sandbox', 'USD', '2026-11-20', told, id, now()
                FROM merchant, unnest(CAST(%s AS jsonb[])) AS told
                """,
                [[json.dumps(told), "[]"]],
            )

        migrate.upgrade(url, "0027")

        with databases.connect(url) as connection:
            rows = connection.execute(
                "SELECT payee_id, reason_code, payable_minor, carried_minor FROM payout_left_out"
            ).fetchall()
    assert rows == [(ann, "below_minimum", 900, 7)]
