"""Report jobs over HTTP: asked for, watched, fetched, deleted."""

import base64
import csv
import hashlib
import io
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pyarrow import parquet
from starlette.testclient import TestClient

from service.api import report_jobs
from service.api.deps import Service
from service.infra.db import execute, unit_of_work
from service.worker import run_once
from tests.support.shop import Shop
from tests.support.workbooks import sheets_of

Json = dict[str, Any]


@pytest.fixture
def shop(client: TestClient) -> Shop:
    """Lan sold twice, Mai once."""
    shop = Shop(client)
    for name in ("Lan", "Mai"):
        shop.a_coupon(shop.an_affiliate(name), name.upper())
    for number, code in enumerate(("LAN", "LAN", "MAI"), start=1):
        shop.an_order(f"o-{number}", coupon_codes=[code], placed_at=shop.time(days=number))
    return shop


def worked(shop: Shop) -> None:
    service: Service = shop.client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    run_once(service.engine, service.settings, service.security)


def asked(shop: Shop, *, by: str = "read", **given: Any) -> Any:
    return shop.post("/v1/report-jobs", {"name": "commissions", "format": "csv", **given}, by=by)


def done(shop: Shop, **given: Any) -> Json:
    answer = asked(shop, **given)
    assert answer.status_code == 202, answer.text
    worked(shop)
    job: Json = shop.get(f"/v1/report-jobs/{answer.json()['id']}", by="read").json()
    assert job["status"] == "done", job
    return job


def test_a_job_says_how_far_it_is_and_where_its_file_will_be(shop: Shop) -> None:
    queued = asked(shop, filters={"from": "2020-01-01", "currency": "USD"}).json()

    assert (queued["status"], queued["rows"], queued["file_url"]) == ("queued", 0, None)
    assert queued["filters"] == {"from": "2020-01-01", "to": None, "currency": "USD", "run_id": None}
    assert all(queued[name] is None for name in ("size_bytes", "sha256", "snapshot_at", "started_at", "expires_at"))
    assert queued["id"].startswith("job_")

    worked(shop)
    job = shop.get(f"/v1/report-jobs/{queued['id']}").json()

    assert (job["status"], job["rows"], job["file_url"]) == ("done", 3, f"/v1/report-jobs/{job['id']}/file")
    assert job["created_at"] <= job["started_at"] <= job["snapshot_at"] <= job["finished_at"] < job["expires_at"]


@pytest.mark.parametrize("form", ["csv", "xlsx", "parquet"])
def test_the_file_is_the_same_bytes_each_time(shop: Shop, form: str) -> None:
    job = done(shop, format=form)
    shop.an_order("later", coupon_codes=["LAN"])

    first, again = (shop.get(job["file_url"], by="read") for _ in range(2))

    assert first.content == again.content
    assert first.headers["content-length"] == str(len(first.content)) == str(job["size_bytes"])
    digest = hashlib.sha256(first.content)
    assert job["sha256"] == digest.hexdigest()
    assert first.headers["etag"] == f'"{digest.hexdigest()}"'
    assert first.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert f'"commissions-{job["snapshot_at"][:10]}.{form}"' in first.headers["content-disposition"]
    known = shop.client.get(job["file_url"], headers=shop.key_of("read") | {"If-None-Match": first.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")


def test_each_format_holds_the_rows_that_were_asked_for(shop: Shop) -> None:
    day = shop.get("/v1/commissions").json()["data"][0]["placed_at"][:10]
    narrowed = {"filters": {"from": day, "to": day}}

    files = {form: shop.get(done(shop, format=form, **narrowed)["file_url"]) for form in ("csv", "xlsx", "parquet")}

    [row] = csv.DictReader(io.StringIO(files["csv"].text, newline=""))
    [[told]] = [sheet.records() for sheet in sheets_of(files["xlsx"].content)]
    [found] = parquet.read_table(io.BytesIO(files["parquet"].content)).to_pylist()
    assert row["commission_id"] == told["commission_id"].value == found["commission_id"]
    assert files["csv"].headers["content-type"] == "text/csv; charset=utf-8; header=present"


def test_a_file_is_not_handed_out_before_it_is_whole(shop: Shop) -> None:
    job = asked(shop).json()

    answer = shop.get(f"/v1/report-jobs/{job['id']}/file")

    assert (answer.status_code, answer.json()["code"]) == (409, "report-unfinished")


def test_a_long_file_comes_piece_by_piece(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    job = done(shop)
    service: Service = shop.client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    whole = shop.get(job["file_url"]).content
    with unit_of_work(service.engine) as session:
        execute(
            session,
            """
            WITH whole AS (DELETE FROM report_chunk RETURNING merchant_id, report_job_id, body)
            INSERT INTO report_chunk
            SELECT merchant_id, report_job_id, number + 1000, substring(body FROM CAST(1 + number * 100 AS integer) FOR 100)
            FROM whole, generate_series(0, length(body) / 100) AS number
            """,
        )
        execute(session, "UPDATE report_chunk SET number = number - 1000")

    assert shop.get(job["file_url"]).content == whole


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        ({"name": "profits"}, 404, "unknown-report"),
        ({"name": "balances", "filters": {"from": "2026-01-01"}}, 422, "report-filter"),
        ({"format": "pdf"}, 422, "invalid-request"),
        ({"filters": {"run_id": "run_01h455vb4pex5vsknk084sn02q"}}, 404, "payout-run-not-found"),
        ({"filters": {"since": "2026-01-01"}}, 422, "invalid-request"),
    ],
)
def test_what_cannot_be_is_refused_at_once(shop: Shop, given: Json, status: int, code: str) -> None:
    answer = asked(shop, **given)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert shop.get("/v1/report-jobs").json()["data"] == []


def test_a_format_that_is_not_installed_is_refused_at_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    answer = asked(shop, format="parquet")

    assert (answer.status_code, answer.json()["code"]) == (422, "report-format-not-installed")


def test_only_so_many_are_under_way_at_once(shop: Shop) -> None:
    jobs = [asked(shop).json() for _ in range(report_jobs.OPEN_MAX)]

    refused = asked(shop)
    assert (refused.status_code, refused.json()["code"]) == (409, "too-many-report-jobs")

    assert shop.client.delete(f"/v1/report-jobs/{jobs[0]['id']}", headers=shop.key_of("read")).status_code == 204
    assert asked(shop).status_code == 202
    worked(shop)
    assert asked(shop).status_code == 202


def test_jobs_asked_for_at_once_are_not_more_than_may_be_open(shop: Shop) -> None:
    shop.key_of("read")
    with ThreadPoolExecutor(2 * report_jobs.OPEN_MAX) as threads:
        answers = list(threads.map(lambda _: asked(shop).status_code, range(2 * report_jobs.OPEN_MAX)))

    assert sorted(answers) == [202] * report_jobs.OPEN_MAX + [409] * report_jobs.OPEN_MAX


def test_jobs_are_listed_newest_first_and_narrowed(shop: Shop) -> None:
    first = done(shop)
    second = asked(shop, name="payouts", format="xlsx").json()

    def listed(**query: Any) -> list[str]:
        return [job["id"] for job in shop.get("/v1/report-jobs", **query).json()["data"]]

    assert listed() == [second["id"], first["id"]]
    assert listed(name="payouts") == listed(format="xlsx") == listed(status="queued") == [second["id"]]


def test_a_deleted_job_is_gone_with_its_file(shop: Shop) -> None:
    job = done(shop)

    answer = shop.client.delete(f"/v1/report-jobs/{job['id']}", headers=shop.key_of("read"))

    assert answer.status_code == 204
    assert shop.get(job["file_url"]).status_code == shop.get(f"/v1/report-jobs/{job['id']}").status_code == 404


def test_after_a_week_there_is_no_file_any_more(shop: Shop) -> None:
    job = done(shop)

    shop.post("/v1/test-clock", {"advance_s": 7 * 24 * 3600})

    assert shop.get(job["file_url"]).status_code == 404
    assert shop.get(f"/v1/report-jobs/{job['id']}").status_code == 404


def test_another_merchant_sees_nothing_of_it(shop: Shop, client: TestClient) -> None:
    job = done(shop)
    other = Shop(client)

    assert other.get(job["file_url"]).status_code == 404
    assert other.get("/v1/report-jobs").json()["data"] == []
    assert client.delete(f"/v1/report-jobs/{job['id']}", headers=other.key_of("admin")).status_code == 404
