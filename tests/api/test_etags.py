"""ETag, If-Match, If-None-Match: nobody overwrites what he has not seen."""

from collections.abc import Callable
from functools import partial

import pytest
from httpx2 import Response

from service.domain.errors import PreconditionFailed
from tests.support.races import together
from tests.support.shop import Json, Shop

TERMS = {"rules": [{"kind": "percent", "rate": "10"}]}
PLACES = {"allowed_domains": ["shop.example"], "fallback_url": "https://shop.example/"}


def ask(shop: Shop, method: str, path: str, body: Json | None = None, *, by: str = "admin", **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return shop.client.request(method, path, json=body, headers={**shop.key_of(by), **named})


Change = tuple[str, str, str, Callable[[str], Json], str]


def program(shop: Shop) -> Change:
    path = f"/v1/programs/{shop.program['id']}"
    return path, "PATCH", path, lambda name: {"name": name}, "admin"


def program_put(shop: Shop) -> Change:
    path = "/v1/programs/by-external-id/p"
    assert ask(shop, "PUT", path, {"name": "P", "terms": TERMS, **PLACES}).status_code == 201
    return path, "PUT", path, lambda name: {"name": name, **PLACES}, "admin"


def affiliate(shop: Shop) -> Change:
    path = f"/v1/affiliates/{shop.an_affiliate(profile={'zz': '1', 'a': '2'})['id']}"
    return path, "PATCH", path, lambda name: {"name": name, "profile": {"zzz": "1", "b": "2"}}, "admin"


def affiliate_put(shop: Shop) -> Change:
    shop.an_affiliate(external_id="lan/1")
    path = "/v1/affiliates/by-external-id/lan/1"
    return path, "PUT", path, lambda name: {"name": name}, "admin"


def tax_profile(shop: Shop) -> Change:
    path = f"/v1/affiliates/{shop.an_affiliate(tax=None)['id']}/tax-profile"
    return path, "PUT", path, lambda name: {"rule": {"first": "off"}.get(name, "none_company")}, "admin"


def link(shop: Shop) -> Change:
    path = f"/v1/links/{shop.a_link(shop.an_affiliate())['id']}"
    return path, "PATCH", path, lambda name: {"url": f"https://shop.example/{name}"}, "admin"


def link_put(shop: Shop) -> Change:
    lan = shop.an_affiliate()
    place = {"affiliate_id": lan["id"], "program_id": shop.program["id"]}
    path = "/v1/links/by-external-id/l"
    assert ask(shop, "PUT", path, {**place, "url": "https://shop.example/"}).status_code == 201
    return path, "PUT", path, lambda name: {**place, "url": f"https://shop.example/{name}"}, "admin"


def merchant(shop: Shop) -> Change:
    path = "/v1/merchants/by-external-id/m"
    assert ask(shop, "PUT", path, {"name": "M", "time_zone": "UTC"}, by="operator").status_code == 201
    return path, "PUT", path, lambda name: {"name": name, "time_zone": "UTC"}, "operator"


CHANGES = [program, program_put, affiliate, affiliate_put, tax_profile, link, link_put, merchant]


@pytest.mark.parametrize("make", CHANGES, ids=lambda make: make.__name__)
def test_a_change_is_made_only_to_what_was_seen(shop: Shop, make: Callable[[Shop], Change]) -> None:
    read_at, method, path, body, by = make(shop)
    seen = ask(shop, "GET", read_at, by=by)
    tag = seen.headers["etag"]

    changed = ask(shop, method, path, body("first"), by=by, If_Match=tag)
    late = ask(shop, method, path, body("second"), by=by, If_Match=tag)

    assert changed.status_code == 200, changed.text
    assert (late.status_code, late.json()["code"]) == (412, "precondition-failed")
    after = ask(shop, "GET", read_at, by=by)
    assert after.json() == changed.json()
    # What a change answers can be used for the next one.
    assert changed.headers["etag"] == after.headers["etag"] != tag
    assert (
        ask(shop, method, path, body("second"), by=by, If_Match=f'"other", {after.headers["etag"]}').status_code == 200
    )
    assert ask(shop, method, path, body("third"), by=by, If_Match="*").status_code == 200
    assert ask(shop, method, path, body("third"), by=by, If_None_Match="*").status_code == 412
    weak = "W/" + ask(shop, "GET", read_at, by=by).headers["etag"]
    assert ask(shop, method, path, body("fourth"), by=by, If_Match=weak).status_code == 412


@pytest.mark.parametrize("make", [program, tax_profile, link], ids=lambda make: make.__name__)
def test_what_the_caller_has_already_is_not_sent_again(shop: Shop, make: Callable[[Shop], Change]) -> None:
    path = make(shop)[0]
    first = ask(shop, "GET", path)

    same = ask(shop, "GET", path, If_None_Match=first.headers["etag"])
    other = ask(shop, "GET", path, If_None_Match='"0"')

    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", first.headers["etag"])
    assert same.headers["koc-mode"] == "test"
    assert (other.status_code, other.json()) == (200, first.json())


def test_what_is_not_there_matches_nothing(shop: Shop) -> None:
    path = "/v1/affiliates/by-external-id/new"

    assert ask(shop, "PUT", path, {"name": "A"}, If_Match="*").status_code == 412
    assert ask(shop, "PUT", path, {"name": "A"}, If_None_Match="*").status_code == 201
    assert ask(shop, "PUT", path, {"name": "B"}, If_None_Match="*").status_code == 412
    assert shop.get(path).json()["name"] == "A"


def test_a_weak_tag_and_a_tag_on_a_second_line_forbid_as_any_other(shop: Shop) -> None:
    path = "/v1/affiliates/by-external-id/new"
    tag = ask(shop, "PUT", path, {"name": "A"}).headers["etag"]
    two_lines = [*shop.key_of("admin").items(), ("If-None-Match", '"0"'), ("If-None-Match", tag)]

    weak = ask(shop, "PUT", path, {"name": "B"}, If_None_Match=f"W/{tag}")
    second = shop.client.put(path, json={"name": "B"}, headers=two_lines)

    assert (weak.status_code, second.status_code) == (412, 412)
    assert shop.get(path).json()["name"] == "A"


@pytest.mark.parametrize("tag", ["", "abc", '"a" "b"', '"a', "*, *"])
def test_a_condition_that_cannot_be_read_is_refused(shop: Shop, tag: str) -> None:
    path = f"/v1/programs/{shop.program['id']}"

    answer = ask(shop, "PATCH", path, {"name": "X"}, If_Match=tag)

    assert (answer.status_code, answer.json()["code"]) == (422, "malformed-precondition")
    assert ask(shop, "GET", path, If_None_Match=tag).status_code == 422


def test_of_sixteen_who_saw_the_same_one_changes_it(shop: Shop) -> None:
    path = f"/v1/programs/{shop.program['id']}"
    tag = ask(shop, "GET", path).headers["etag"]

    def until_heard(name: str) -> Response:
        while (answer := ask(shop, "PATCH", path, {"name": name}, If_Match=tag)).status_code == 503:
            pass
        return answer

    answers = together(*[partial(until_heard, str(number)) for number in range(16)])

    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 15
    [winner] = [answer.json() for answer in answers if answer.is_success]
    assert ask(shop, "GET", path).json() == winner
    assert {answer.json()["title"] for answer in answers if answer.is_error} == {PreconditionFailed.title}
