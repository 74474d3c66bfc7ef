"""Terms as a KOC meets them: which count, what is coming, accepting them; and how a merchant announces a cut."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from service.api.webhook_events import DATA
from service.domain.events import EventType
from service.domain.notice import terms_hash
from service.domain.program import Terms
from tests.support.shop import SHOP_URL, Json, Shop


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def publish(shop: Shop, program: Json, rate: str, *, days: float | None = None, **terms: object) -> Json:
    """Publish a version of `rate` percent that begins so many days ahead; None: as early as allowed."""
    asked: Json = {"terms": {"rules": [{"kind": "percent", "rate": rate}], **terms}}
    if days is not None:
        asked["valid_from"] = (shop.now() + timedelta(days=days)).isoformat()
    answer = shop.post(f"/v1/programs/{program['id']}/versions", asked)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def mine(shop: Shop, who: Json) -> Json:
    [program] = shop.get("/v1/me/programs", by=who["id"]).json()["data"]
    return dict(program)


def accept(shop: Shop, who: Json, version: int, *, program: Json | None = None, language: str = "vi") -> Json:
    path = f"/v1/me/programs/{(program or shop.program)['id']}/accept"
    answer = shop.post(path, {"version": version, "language": language}, by=who["id"])
    return {"status": answer.status_code, **answer.json()}


# What a KOC sees.


def test_a_koc_sees_the_terms_that_count_and_what_is_coming(shop: Shop) -> None:
    lan = shop.an_affiliate("Lan")
    coming = publish(shop, shop.program, "8", days=1)

    program = mine(shop, lan)

    assert (program["id"], program["name"], program["disclosure"]) == (
        shop.program["id"],
        shop.program["name"],
        "I earn from this.",
    )
    assert moment(program["enrolled_since"]) == shop.opened_at
    assert (program["your_version"], program["next_version"], program["must_accept"]) == (1, 2, None)
    reaches = moment(coming["valid_from"]) + timedelta(days=30)
    assert moment(program["next_from"]) == reaches
    first, second = program["versions"]
    assert (first["number"], first["standing"], first["changes"], first["accepted_at"]) == (1, "in_force", [], None)
    assert first["terms"] == shop.program["version_in_force"]["terms"]
    assert (second["number"], second["standing"], second["valid_from"]) == (2, "coming", coming["valid_from"])
    assert moment(second["reaches_you_at"]) == reaches
    assert second["changes"] == [
        {"pointer": "/rules/0/rate", "kind": "changed", "from": "10", "to": "8", "effect": "worse"}
    ]


def test_golden_a_cut_waits_thirty_days_for_who_was_there_and_not_for_who_comes(shop: Shop) -> None:
    """15 % becomes 12 %: what a KOC is told is what its orders earn, day by day; then 18 % for all at once."""
    program = shop.a_program(rate="15")
    old = shop.an_affiliate("Old hand", program=program)
    shop.a_coupon(old, "OLD", program=program)
    shop.an_order()
    publish(shop, program, "12", days=1)
    shop.advance(days=2)
    new = shop.an_affiliate("Newcomer", program=program)
    shop.a_coupon(new, "NEW", program=program)
    shop.advance(minutes=6)

    def earned(who: Json, code: str) -> int:
        shop.an_order(coupon_codes=[code], placed_at=shop.time())
        newest = shop.get("/v1/commissions", affiliate_id=who["id"], limit=1).json()["data"][0]
        return int(newest["target"]["amount_minor"])

    def now() -> list[tuple[int, int]]:
        return [(mine(shop, who)["your_version"], earned(who, code)) for who, code in ((old, "OLD"), (new, "NEW"))]

    meanwhile = now()
    shop.advance(days=28)
    the_last_day = now()
    shop.advance(days=1)
    afterwards = now()
    publish(shop, program, "18")
    shop.advance(minutes=6)
    after_the_rise = now()

    assert meanwhile == [(1, 1500), (2, 1200)]
    assert the_last_day == [(1, 1500), (2, 1200)]
    assert afterwards == [(2, 1200), (2, 1200)]
    assert after_the_rise == [(3, 1800), (3, 1800)]


def test_terms_that_wait_are_shown_as_protected_and_in_force(shop: Shop) -> None:
    lan = shop.an_affiliate("Lan")
    publish(shop, shop.program, "8")
    publish(shop, shop.program, "9", days=20)

    shop.advance(minutes=6)

    program = mine(shop, lan)
    assert [(each["number"], each["standing"]) for each in program["versions"]] == [
        (1, "protected"),
        (2, "in_force"),
        (3, "coming"),
    ]
    assert (program["your_version"], program["next_version"]) == (1, 3)


def test_only_programmes_taken_part_in_are_listed(shop: Shop) -> None:
    lan = shop.an_affiliate("Lan")
    other = shop.a_program()
    later = shop.a_program()
    left = shop.a_program()
    path = f"/v1/affiliates/{lan['id']}/enrollments"
    starts = (shop.now() + timedelta(days=3)).isoformat()
    shop.post(path, {"program_id": later["id"], "valid_from": starts})
    joined = shop.post(path, {"program_id": left["id"], "valid_from": shop.opened_at.isoformat()}).json()
    shop.post(f"{path}/{joined['id']}/end", {})
    shop.advance(minutes=6)

    listed = shop.get("/v1/me/programs", by=lan["id"]).json()["data"]
    first = shop.get("/v1/me/programs", by=lan["id"], limit=1).json()
    second = shop.get("/v1/me/programs", by=lan["id"], limit=1, cursor=first["next_cursor"]).json()

    assert [each["id"] for each in listed] == [later["id"], shop.program["id"]]
    assert moment(listed[0]["enrolled_since"]) == moment(starts)
    assert other["id"] not in {each["id"] for each in listed}
    assert first["data"] + second["data"] == listed
    assert accept(shop, lan, 1, program=later)["status"] == 201
    assert accept(shop, lan, 1, program=left)["status"] == 404


# Accepting.


def test_what_was_accepted_is_kept_as_it_was_shown(shop: Shop) -> None:
    lan = shop.an_affiliate("Lan")
    shop.advance(days=1)
    at = shop.now()

    accepted = accept(shop, lan, 1)

    shop.patch(f"/v1/programs/{shop.program['id']}", {"disclosure": "Ad."})
    [kept] = shop.get(f"/v1/programs/{shop.program['id']}/acceptances").json()["data"]
    assert accepted == {"status": 201, **kept}
    assert (kept["program_id"], kept["version"], kept["affiliate_id"]) == (shop.program["id"], 1, lan["id"])
    assert (kept["language"], kept["disclosure"]) == ("vi", "I earn from this.")
    assert timedelta(0) <= moment(kept["accepted_at"]) - at < timedelta(minutes=1)
    stored = Terms.of_json(shop.program["version_in_force"]["terms"]).as_json()
    assert kept["terms_hash"] == terms_hash(stored) == mine(shop, lan)["versions"][0]["terms_hash"]
    assert mine(shop, lan)["versions"][0]["accepted_at"] == kept["accepted_at"]
    keys = shop.get("/v1/api-keys", affiliate_id=lan["id"]).json()["data"]
    assert kept["key_id"] in {key["id"] for key in keys}
    [change] = [each for each in shop.get("/v1/audit", subject=lan["id"]).json()["data"] if each["after"]][:1]
    assert (change["kind"], change["after"]["key_id"]) == ("terms_acceptance", kept["key_id"])


def test_to_accept_again_changes_nothing(shop: Shop) -> None:
    lan = shop.an_affiliate("Lan")

    first, second = accept(shop, lan, 1), accept(shop, lan, 1, language="zh-Hant")

    assert (first["status"], second["status"]) == (201, 200)
    assert {**second, "status": 201} == first
    assert len(shop.get(f"/v1/programs/{shop.program['id']}/acceptances").json()["data"]) == 1


def test_accepted_at_once_by_two_it_is_accepted_once(shop: Shop) -> None:
    lan = shop.an_affiliate("Lan")
    shop.key_of(lan["id"])

    with ThreadPoolExecutor(4) as threads:
        statuses = sorted(each["status"] for each in threads.map(lambda _: accept(shop, lan, 1), range(4)))

    assert statuses == [200, 200, 200, 201]


def test_what_counts_or_will_can_be_accepted_and_nothing_else(shop: Shop) -> None:
    lan = shop.an_affiliate("Lan")
    other = shop.a_program()
    publish(shop, shop.program, "8")
    publish(shop, shop.program, "7", days=60)
    shop.advance(minutes=6)

    assert accept(shop, lan, 1)["status"] == 201
    assert accept(shop, lan, 3)["status"] == 201
    shop.advance(days=31)
    minh = shop.an_affiliate("Minh")
    assert accept(shop, lan, 1)["status"] == 200
    refused = accept(shop, minh, 1)
    assert (refused["status"], refused["code"]) == (409, "version-superseded")
    assert "2, 3" in refused["detail"]
    assert accept(shop, minh, 2)["status"] == 201
    assert [accept(shop, minh, 4)["status"], accept(shop, minh, 1, program=other)["status"]] == [404, 404]


@pytest.mark.parametrize(
    "asked",
    [
        {"version": 1},
        {"version": 1, "language": "Vietnamese"},
        {"version": 1, "language": ""},
        {"version": "1", "language": "vi"},
        {"version": 0, "language": "vi"},
    ],
    ids=str,
)
def test_version_and_language_have_to_be_said(shop: Shop, asked: Json) -> None:
    lan = shop.an_affiliate("Lan")

    answer = shop.post(f"/v1/me/programs/{shop.program['id']}/accept", asked, by=lan["id"])

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")


def test_nobody_accepts_for_a_koc(shop: Shop) -> None:
    shop.an_affiliate("Lan")

    answer = shop.post(f"/v1/me/programs/{shop.program['id']}/accept", {"version": 1, "language": "vi"})

    assert answer.status_code == 403


def test_a_merchant_sees_who_accepted_what(shop: Shop) -> None:
    lan, minh = shop.an_affiliate("Lan"), shop.an_affiliate("Minh")
    publish(shop, shop.program, "8", days=1)
    for who, version in ((lan, 1), (minh, 1), (lan, 2)):
        accept(shop, who, version)
    path = f"/v1/programs/{shop.program['id']}/acceptances"

    def found(**query: object) -> list[tuple[str, int]]:
        listed = shop.get(path, by="read", **query).json()["data"]
        return [(each["affiliate_id"], each["version"]) for each in listed]

    assert found() == [(lan["id"], 2), (minh["id"], 1), (lan["id"], 1)]
    assert found(version=1) == [(minh["id"], 1), (lan["id"], 1)]
    assert found(affiliate_id=lan["id"], version=2) == [(lan["id"], 2)]
    assert found(limit=1, cursor=shop.get(path, limit=1).json()["next_cursor"]) == [(minh["id"], 1)]
    assert shop.get(path.replace(shop.program["id"], "prg_01h455vb4pex5vsknk084sn02q")).status_code == 404


def test_an_enrolment_says_whether_the_terms_in_force_are_accepted(shop: Shop) -> None:
    lan = shop.an_affiliate("Lan")
    path = f"/v1/affiliates/{lan['id']}/enrollments"

    def accepted() -> list[bool]:
        return [each["terms_accepted"] for each in shop.get(path).json()["data"]]

    before = accepted()
    accept(shop, lan, 1)
    after = accepted()
    publish(shop, shop.program, "8")
    shop.advance(minutes=6)
    superseded = accepted()
    accept(shop, lan, 2)
    [joined] = shop.get(path).json()["data"]
    ended = shop.post(f"{path}/{joined['id']}/end", {}).json()

    assert (before, after, superseded, joined["terms_accepted"]) == ([False], [True], [False], True)
    assert (ended["enrolled"], ended["terms_accepted"]) == (False, True)


# Terms that have to be accepted.


@pytest.fixture
def strict(shop: Shop) -> Shop:
    """Return a shop whose programme wants its terms accepted."""
    answer = shop.patch(f"/v1/programs/{shop.program['id']}", {"requires_acceptance": True})
    assert answer.json()["requires_acceptance"] is True
    return shop


def link(shop: Shop, who: Json) -> Json:
    """Ask for a link with the KOC's own key."""
    asked = {"program_id": shop.program["id"], "url": f"{SHOP_URL}/p/1"}
    answer = shop.post("/v1/links", asked, by=who["id"])
    return {"status": answer.status_code, **answer.json()}


def test_a_koc_makes_no_link_before_it_has_accepted(strict: Shop) -> None:
    lan = strict.an_affiliate("Lan")

    refused = link(strict, lan)
    due = mine(strict, lan)
    accept(strict, lan, due["must_accept"])

    assert (refused["status"], refused["code"]) == (409, "terms-not-accepted")
    assert f"POST /v1/me/programs/{strict.program['id']}/accept" in refused["detail"]
    assert (due["requires_acceptance"], due["must_accept"]) == (True, 1)
    assert mine(strict, lan)["must_accept"] is None
    assert link(strict, lan)["status"] == 201


def test_a_merchant_s_key_makes_links_all_the_same_and_orders_earn(strict: Shop) -> None:
    lan = strict.an_affiliate("Lan")
    strict.a_coupon(lan, "LAN")

    made = strict.a_link(lan)
    strict.deliver(strict.order(coupon_codes=["LAN"]))

    [commission] = strict.get("/v1/commissions").json()["data"]
    assert made["affiliate_id"] == lan["id"]
    assert commission["target"]["amount_minor"] == 1000
    # The KOC itself has accepted nothing yet, so the merchant's link opens no door for it.
    assert link(strict, lan)["code"] == "terms-not-accepted"


def test_new_terms_stop_nobody_who_has_begun_and_are_accepted_by_who_begins(strict: Shop) -> None:
    lan, minh = strict.an_affiliate("Lan"), strict.an_affiliate("Minh")
    for who in (lan, minh):
        accept(strict, who, 1)
    link(strict, lan)
    publish(strict, strict.program, "8")
    strict.advance(minutes=6)

    assert link(strict, lan)["status"] == 201
    assert link(strict, minh)["code"] == "terms-not-accepted"
    assert [mine(strict, who)["must_accept"] for who in (lan, minh)] == [None, 2]
    accept(strict, minh, 2)
    assert link(strict, minh)["status"] == 201


def test_before_the_first_terms_begin_the_first_are_accepted(shop: Shop) -> None:
    shop.an_order()
    program = shop.a_program(valid_from=shop.now() + timedelta(days=2))
    shop.patch(f"/v1/programs/{program['id']}", {"requires_acceptance": True})
    lan = shop.an_affiliate("Lan", program=program)

    shown = mine(shop, lan)

    assert (shown["must_accept"], shown["your_version"], shown["next_version"]) == (1, None, 1)
    assert [each["standing"] for each in shown["versions"]] == ["coming"]
    assert accept(shop, lan, 1, program=program)["status"] == 201
    assert mine(shop, lan)["must_accept"] is None


# Announcing.


def published(shop: Shop) -> list[Json]:
    events = shop.get("/v1/events", type="program.version_published").json()["data"]
    return [dict(event["data"]) for event in events]


def test_a_new_version_is_announced_with_what_changes(shop: Shop) -> None:
    shop.an_affiliate("Lan")
    version = publish(shop, shop.program, "8", days=2, notice_days=7)

    [told] = published(shop)

    DATA[EventType.PROGRAM_VERSION_PUBLISHED].model_validate(told)
    assert (told["program_id"], told["number"], told["follows"]) == (shop.program["id"], 2, 1)
    assert moment(told["valid_from"]) == moment(version["valid_from"])
    assert (told["notice_days"], told["may_be_cut"]) == (30, True)
    assert moment(told["reaches_all_at"]) == moment(version["valid_from"]) + timedelta(days=30)
    assert told["changes"] == [
        {"pointer": "/rules/0/rate", "kind": "changed", "from": "10", "to": "8", "effect": "worse"},
        {"pointer": "/notice_days", "kind": "changed", "from": 30, "to": 7, "effect": "worse"},
    ]
    assert shop.get(told["diff_path"]).json()["changes"] == told["changes"]


def test_changes_too_long_for_a_message_are_read_where_it_says(shop: Shop) -> None:
    many = [{"kind": "percent", "rate": "8", "match": {"skus": [f"SKU-{each:0100}" for each in range(200)]}}]
    shop.post(f"/v1/programs/{shop.program['id']}/versions", {"terms": {"rules": many}})

    [told] = published(shop)

    assert told["changes"] is None
    assert len(shop.get(told["diff_path"]).json()["changes"]) == 2


def test_a_version_before_the_first_follows_none(shop: Shop) -> None:
    shop.an_order()
    program = shop.a_program(valid_from=shop.now() + timedelta(days=2))
    publish(shop, program, "5", days=1)

    [told] = published(shop)

    DATA[EventType.PROGRAM_VERSION_PUBLISHED].model_validate(told)
    assert (told["follows"], told["changes"], told["diff_path"], told["may_be_cut"]) == (None, None, None, False)


def test_a_programme_may_promise_to_tell_of_cuts_in_time(shop: Shop) -> None:
    path = f"/v1/programs/{shop.program['id']}"
    assert shop.patch(path, {"min_notice_hours": 48}).json()["min_notice_hours"] == 48
    cut = {"rules": [{"kind": "percent", "rate": "9"}]}

    soon = (shop.now() + timedelta(hours=47)).isoformat()
    refused = shop.post(f"{path}/versions", {"terms": cut, "valid_from": soon})
    in_time = publish(shop, shop.program, "9", days=2.01)
    by_default = publish(shop, shop.program, "8", notice_days=14)
    rise = publish(shop, shop.program, "11", days=1)
    rise_by_default = publish(shop, shop.program, "12")

    assert (refused.status_code, refused.json()["code"]) == (409, "notice-too-short")
    assert "48 hours" in refused.json()["detail"]
    assert [in_time["number"], by_default["number"], rise["number"], rise_by_default["number"]] == [2, 3, 4, 5]
    assert moment(by_default["valid_from"]) - moment(by_default["recorded_at"]) == timedelta(hours=48)
    assert moment(rise_by_default["valid_from"]) - moment(rise_by_default["recorded_at"]) == timedelta(minutes=5)


def test_a_cut_below_what_was_just_raised_needs_notice_too(shop: Shop) -> None:
    path = f"/v1/programs/{shop.program['id']}"
    shop.patch(path, {"min_notice_hours": 48})
    publish(shop, shop.program, "20", days=0.5)

    back = (shop.now() + timedelta(days=1)).isoformat()
    refused = shop.post(
        f"{path}/versions", {"terms": {"rules": [{"kind": "percent", "rate": "10"}]}, "valid_from": back}
    )

    assert refused.json()["code"] == "notice-too-short"


@pytest.mark.parametrize("change", [{"min_notice_hours": -1}, {"min_notice_hours": "48"}, {"requires_acceptance": 1}])
def test_what_a_programme_promises_is_checked(shop: Shop, change: Json) -> None:
    assert shop.patch(f"/v1/programs/{shop.program['id']}", change).status_code == 422


def test_putting_a_programme_leaves_its_promises_unless_they_are_named(shop: Shop) -> None:
    path = "/v1/programs/by-external-id/autumn"
    asked: Json = {"name": "Autumn", "allowed_domains": ["shop.example"], "fallback_url": f"{SHOP_URL}/"}
    terms = {"rules": [{"kind": "percent", "rate": "10"}]}

    made = shop.put(path, asked | {"terms": terms, "requires_acceptance": True, "min_notice_hours": 24}).json()
    kept = shop.put(path, asked | {"name": "Winter"}).json()
    changed = shop.put(path, asked | {"requires_acceptance": False}).json()

    assert [(each["requires_acceptance"], each["min_notice_hours"]) for each in (made, kept, changed)] == [
        (True, 24),
        (True, 24),
        (False, 24),
    ]


# What changed.


def test_a_version_is_compared_with_the_one_before_or_with_another(shop: Shop) -> None:
    publish(shop, shop.program, "12", days=1)
    publish(shop, shop.program, "11", days=2)
    path = f"/v1/programs/{shop.program['id']}/versions"

    before = shop.get(f"{path}/3/diff", by="read").json()
    first = shop.get(f"{path}/3/diff", against=1).json()
    itself = shop.get(f"{path}/3/diff", against=3).json()

    def rate(from_: str, to: str, effect: str) -> list[Json]:
        return [{"pointer": "/rules/0/rate", "kind": "changed", "from": from_, "to": to, "effect": effect}]

    assert before == {
        "program_id": shop.program["id"], "number": 3, "against": 2, "may_be_cut": True,
        "changes": rate("12", "11", "worse"),
    }  # fmt: skip
    assert (first["against"], first["may_be_cut"], first["changes"]) == (1, False, rate("10", "11", "better"))
    assert (itself["may_be_cut"], itself["changes"]) == (False, [])


@pytest.mark.parametrize(("number", "query"), [(1, {}), (9, {}), (2, {"against": 9})], ids=str)
def test_what_is_not_there_cannot_be_compared(shop: Shop, number: int, query: Json) -> None:
    publish(shop, shop.program, "12", days=1)

    assert shop.get(f"/v1/programs/{shop.program['id']}/versions/{number}/diff", **query).status_code == 404
