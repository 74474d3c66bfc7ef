"""Programmes: terms that never change, versions that never begin in the past, and what may change at any time."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.api.terms import TermsDocument
from service.domain.money import EXPONENTS
from service.domain.program import Terms
from tests.support.shop import Json, Shop

ALWAYS: Json = {"all": [], "any": [], "not": []}
PLAIN: Json = {
    "name": "", "match": {"skus": [], "categories": []}, "when": ALWAYS, "plan": "open", "priority": None,
    "component": "base", "funder": "merchant", "cap_per_line": [], "agent": None,
}  # fmt: skip
USD_50: list[Json] = [{"amount_minor": 5000, "currency": "USD"}]
FULL: Json = {
    "rules": [
        {
            **PLAIN,
            "kind": "percent",
            "rate": "12.5",
            "name": "Launch",
            "match": {"skus": ["a", "b"], "categories": []},
            "when": {
                "all": [
                    {"kind": "order_amount", "at_least": USD_50, "below": [], "of": "left"},
                    {"kind": "placed", "from": "2026-11-11T00:00:00Z", "until": None},
                ],
                "any": [{"kind": "touch", "in": ["click"]}, {"kind": "coupon", "in": ["launch"]}],
                "not": [
                    {"kind": "category", "in": ["gift"]},
                    {"kind": "sku", "in": ["z"]},
                    {"kind": "line_amount", "at_least": [], "below": USD_50, "of": "ordered"},
                ],
            },
            "plan": "target",
            "priority": 3,
            "component": "bonus",
            "funder": "brand",
            "cap_per_line": USD_50,
        },
        {
            **PLAIN,
            "kind": "flat",
            "amounts": [{"amount_minor": 25000, "currency": "VND"}],
            "per": "unit",
            "match": {"skus": [], "categories": ["serum"]},
        },
        {**PLAIN, "kind": "percent", "rate": "0"},
    ],
    "base": "net",
    "exclude": [{"kind": "sku", "in": ["gift-card"]}],
    "cap_per_order": USD_50,
    "attribution": {
        "window_days": 7,
        "windows": [{"days": 1, "content_types": ["live"], "channels": ["zalo"]}],
        "model": "first",
        "position": {"first": "40", "last": "40"},
        "precedence": "time",
        "customer_binding": "before",
        "product_binding": "ignored",
        "self_purchase": "allow",
        "self_purchase_by": ["email", "phone"],
        "reorder_days": 7,
    },
    "settlement": {
        "kind": "rolling",
        "start": "delivered",
        "hold_days": 30,
        "approval": "manual",
        "auto_approve_days": 60,
    },
    "payout_minimums": [{"amount_minor": 1000, "currency": "USD"}],
    "notice_days": 0,
    "technical_fee": None,
    "periods": [
        {"kind": "cap", "key": "most", "period": "day", "first_day": None, "last_day": None, "amounts": USD_50},
        {
            "kind": "ladder",
            "key": "volume",
            "period": "month",
            "first_day": "2026-11-01",
            "last_day": None,
            "scale": "retroactive",
            "steps": [
                {"from": USD_50, "rate": "1"},
                {"from": [{"amount_minor": 9000, "currency": "USD"}], "rate": "2.5"},
            ],
        },
        {
            "kind": "milestones",
            "key": "tet",
            "period": "campaign",
            "first_day": "2027-01-01",
            "last_day": "2027-02-15",
            "marks": [
                {"orders": 10, "sales": [], "pays": USD_50},
                {"orders": None, "sales": USD_50, "pays": USD_50},
            ],
        },
    ],
}

MONTHLY: Json = {
    "kind": "statement", "start": "completed", "hold_days": 7, "approval": "automatic", "cut_off_day": 15,
    "months_after": 0, "pay_day": 20, "roll": "previous", "off_days": ["sat", "sun"], "holidays": ["2027-01-01"],
    "auto_approve_days": None, "audit_days": 2, "objection_days": 4, "advance": None,
}  # fmt: skip
SMALL: Json = {"rules": [{"kind": "percent", "rate": "10"}]}


def asked(**parts: object) -> Json:
    return {
        "name": "Autumn",
        "terms": SMALL,
        "allowed_domains": ["Shop.Example", "*.shop.example", "shop.example"],
        "fallback_url": "https://shop.example",
        **parts,
    }


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_programme_shows_its_terms_as_they_were_given(shop: Shop) -> None:
    made = shop.post("/v1/programs", asked(terms=FULL, external_id="autumn", disclosure="Ad."))

    program = made.json()["program"]
    assert made.status_code == 201
    assert program["version_in_force"]["terms"] == FULL
    assert program["version_in_force"]["number"] == 1
    assert program["allowed_domains"] == ["shop.example", "*.shop.example"]
    assert program["fallback_url"] == "https://shop.example/"
    assert shop.get(f"/v1/programs/{program['id']}").json() == program
    assert shop.get("/v1/programs").json()["data"] == [program]
    assert shop.get(f"/v1/programs/{program['id']}/versions/1").json() == made.json()["version"]


def test_terms_left_out_are_filled_in_and_shown(shop: Shop) -> None:
    terms = shop.post("/v1/programs", asked()).json()["version"]["terms"]

    assert terms["attribution"] == {
        "window_days": 30,
        "windows": [],
        "model": "last",
        "position": {"first": "40", "last": "40"},
        "precedence": "coupon",
        "customer_binding": "after",
        "product_binding": "after",
        "self_purchase": "reject",
        "self_purchase_by": ["address", "email", "id", "payment", "phone"],
        "reorder_days": 0,
    }
    assert terms["settlement"] == {
        "kind": "rolling",
        "start": "paid",
        "hold_days": 14,
        "approval": "automatic",
        "auto_approve_days": None,
    }
    assert (terms["base"], terms["notice_days"], terms["cap_per_order"]) == ("net", 30, [])


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"rules": []}, "#/terms/rules"),
        ({"rules": [{"kind": "tiered"}]}, "#/terms/rules/0"),
        ({"rules": [{"kind": "percent", "rate": 10}]}, "#/terms/rules/0/rate"),
        ({"rules": [{"kind": "percent", "rate": "10", "cap": 1}]}, "#/terms/rules/0/cap"),
        ({"rules": [{"kind": "flat", "amounts": []}]}, "#/terms/rules/0/amounts"),
        ({"rules": [{"kind": "percent"}]}, "#/terms/rules/0/rate"),
        ({"rules": [{"kind": "percent", "rate": "1", "percent": {}}]}, "#/terms/rules/0/percent"),
        ({"rules": [{"kind": "flat", "amounts": USD_50, "per": "dozen"}]}, "#/terms/rules/0/per"),
        ({"rules": [{"kind": "percent", "rate": "10", "plan": "best"}]}, "#/terms/rules/0/plan"),
        ({"rules": [{"kind": "percent", "rate": "10", "component": "A b"}]}, "#/terms/rules/0/component"),
        ({"exclude": [{"kind": "weather", "in": ["rain"]}]}, "#/terms/exclude/0"),
        ({"exclude": [{"kind": "sku", "in": []}]}, "#/terms/exclude/0/in"),
        ({"base": "gross"}, "#/terms/base"),
        ({"notice_days": "30"}, "#/terms/notice_days"),
        ({"notice_days": -1}, "#/terms/notice_days"),
        ({"settlement": {"kind": "weekly"}}, "#/terms/settlement"),
        ({"settlement": {"kind": "statement"}}, "#/terms/settlement/pay_day"),
        ({"settlement": MONTHLY | {"off_days": ["caturday"]}}, "#/terms/settlement/off_days/0"),
        ({"settlement": MONTHLY | {"cut_off_day": 32}}, "#/terms/settlement/cut_off_day"),
        ({"settlement": {"kind": "rolling", "start": "ordered"}}, "#/terms/settlement/start"),
        ({"settlement": {"start": "paid"}}, "#/terms/settlement"),
        ({"attribution": {"model": "best"}}, "#/terms/attribution/model"),
        ({"periods": [{"kind": "cap", "key": "a", "period": "week", "amounts": USD_50}]}, "#/terms/periods/0/period"),
        ({"periods": [{"kind": "ladder", "key": "a", "period": "day", "steps": []}]}, "#/terms/periods/0/steps"),
        ({"cap_per_order": [{"amount_minor": 1, "currency": "XXX"}]}, "#/terms/cap_per_order/0/currency"),
    ],
    ids=str,
)
def test_terms_are_a_closed_form(shop: Shop, change: Json, pointer: str) -> None:
    answer = shop.post("/v1/programs", asked(terms=SMALL | change))

    assert answer.status_code == 422
    assert [part["pointer"] for part in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize("rate", [8, 12.5])
def test_a_rate_that_is_a_number_is_asked_for_as_text(shop: Shop, rate: float) -> None:
    answer = shop.post("/v1/programs", asked(terms=SMALL | {"rules": [{"kind": "percent", "rate": rate}]}))

    assert answer.json()["errors"] == [
        {"pointer": "#/terms/rules/0/rate", "code": "string-type", "detail": 'Write it as text, such as "8"'}
    ]


@pytest.mark.parametrize("rate", ["100.01", "-1", "12,5", "1e1", "", ".5", "٣", "0.1234567", "101"])
def test_a_rate_is_percent_in_plain_decimals(shop: Shop, rate: str) -> None:
    answer = shop.post("/v1/programs", asked(terms={"rules": [{"kind": "percent", "rate": rate}]}))

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-terms")


def test_one_currency_is_named_once(shop: Shop) -> None:
    twice = [{"amount_minor": 1, "currency": "USD"}, {"amount_minor": 2, "currency": "USD"}]

    answer = shop.post("/v1/programs", asked(terms=SMALL | {"cap_per_order": twice}))

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-terms")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"allowed_domains": ["*"]}, "invalid-domain"),
        ({"allowed_domains": ["https://shop.example"]}, "invalid-domain"),
        ({"allowed_domains": ["127.0.0.1"]}, "invalid-domain"),
        ({"fallback_url": "http://shop.example/"}, "invalid-url"),
        ({"fallback_url": "javascript:alert(1)"}, "invalid-url"),
        ({"allowed_domains": []}, "invalid-request"),
    ],
    ids=str,
)
def test_links_can_only_be_led_to_named_hosts_over_https(shop: Shop, change: Json, code: str) -> None:
    answer = shop.post("/v1/programs", asked(**change))

    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_before_the_first_order_the_first_version_may_reach_back(shop: Shop) -> None:
    made = shop.post("/v1/programs", asked(valid_from="2010-12-01T00:00:00+07:00"))

    assert made.status_code == 201
    assert made.json()["version"]["valid_from"] == "2010-11-30T17:00:00Z"


def test_without_a_start_the_first_version_holds_since_the_merchant_was_made(shop: Shop) -> None:
    version = shop.post("/v1/programs", asked()).json()["version"]

    made_at = datetime.fromisoformat(shop.get("/v1/merchant").json()["created_at"])
    # In whole seconds, as shops tell when an order was placed.
    assert datetime.fromisoformat(version["valid_from"]) == made_at.replace(microsecond=0)


def test_a_later_version_never_reaches_back(shop: Shop) -> None:
    program = shop.a_program()
    path = f"/v1/programs/{program['id']}/versions"

    too_early = shop.post(path, {"terms": SMALL, "valid_from": (shop.now() + timedelta(minutes=4)).isoformat()})
    by_default = shop.post(path, {"terms": SMALL})
    early_enough = shop.post(path, {"terms": SMALL, "valid_from": (shop.now() + timedelta(minutes=6)).isoformat()})

    assert (too_early.status_code, too_early.json()["code"]) == (409, "back-dated")
    assert by_default.json()["number"] == 2
    assert moment(by_default.json()["valid_from"]) - moment(by_default.json()["recorded_at"]) == timedelta(minutes=5)
    assert early_enough.json()["number"] == 3
    assert [one["number"] for one in shop.get(path).json()["data"]] == [3, 2, 1]
    assert [
        one["number"]
        for one in shop.get(path, limit=1, cursor=shop.get(path, limit=1).json()["next_cursor"]).json()["data"]
    ] == [2]


def test_after_the_first_order_no_first_version_reaches_back(shop: Shop) -> None:
    shop.an_order()

    refused = shop.post("/v1/programs", asked(valid_from=shop.time(seconds=1)))
    by_default = shop.post("/v1/programs", asked()).json()

    assert (refused.status_code, refused.json()["code"]) == (409, "back-dated")
    assert moment(by_default["version"]["valid_from"]) > shop.now()
    assert by_default["program"]["version_in_force"] is None


def test_an_event_that_is_kept_but_not_understood_closes_no_door(shop: Shop) -> None:
    shop.deliver({"type": "nonsense"})

    assert shop.post("/v1/programs", asked(valid_from="2020-01-01T00:00:00Z")).status_code == 201


def test_the_terms_in_force_follow_the_merchants_clock(shop: Shop) -> None:
    program = shop.a_program(rate="10")
    shop.post(f"/v1/programs/{program['id']}/versions", {"terms": {"rules": [{"kind": "percent", "rate": "8"}]}})
    before = shop.get(f"/v1/programs/{program['id']}").json()["version_in_force"]

    shop.advance(minutes=6)

    after = shop.get(f"/v1/programs/{program['id']}").json()["version_in_force"]
    assert (before["number"], before["terms"]["rules"][0]["rate"]) == (1, "10")
    assert (after["number"], after["terms"]["rules"][0]["rate"]) == (2, "8")


def test_two_versions_cannot_begin_together(shop: Shop) -> None:
    program = shop.a_program()
    later = {"terms": SMALL, "valid_from": (shop.now() + timedelta(days=1)).isoformat()}
    shop.post(f"/v1/programs/{program['id']}/versions", later)

    answer = shop.post(f"/v1/programs/{program['id']}/versions", later)

    assert (answer.status_code, answer.json()["code"]) == (409, "version-taken")


def test_versions_made_at_once_get_numbers_of_their_own(shop: Shop) -> None:
    program = shop.a_program()
    starts = [(shop.now() + timedelta(days=day)).isoformat() for day in range(1, 9)]

    def add(valid_from: str) -> int:
        answer = shop.post(f"/v1/programs/{program['id']}/versions", {"terms": SMALL, "valid_from": valid_from})
        number: int = answer.json()["number"]
        return number

    with ThreadPoolExecutor(8) as threads:
        numbers = sorted(threads.map(add, starts))

    assert numbers == list(range(2, 10))


def test_name_domains_fallback_and_disclosure_change_and_terms_do_not(shop: Shop) -> None:
    program = shop.a_program()
    path = f"/v1/programs/{program['id']}"

    changed = shop.patch(path, {"name": "Winter", "allowed_domains": ["b.example"]}).json()
    refused = shop.patch(path, {"terms": SMALL})

    assert changed == program | {"name": "Winter", "allowed_domains": ["b.example"]}
    assert shop.get(path).json() == changed
    assert refused.status_code == 422


@pytest.mark.parametrize(
    ("number", "status"), [("2", 404), ("2147483647", 404), ("0", 422), ("-1", 422), ("9" * 20, 422), ("1_0", 422)]
)
def test_a_version_that_is_not_there_is_missing(shop: Shop, number: str, status: int) -> None:
    program = shop.a_program()

    assert shop.get(f"/v1/programs/{program['id']}/versions/{number}").status_code == status


def test_external_ids_of_two_merchants_do_not_meet(client: TestClient) -> None:
    first, second = Shop(client), Shop(client)

    made = [one.post("/v1/programs", asked(external_id="same")).status_code for one in (first, second, first)]

    assert made == [201, 201, 409]


amounts = st.lists(
    st.builds(
        lambda currency, amount: {"amount_minor": amount, "currency": currency},
        st.sampled_from(sorted(EXPONENTS)),
        st.integers(0, 10**15),
    ),
    max_size=4,
    unique_by=lambda one: one["currency"],
)
matches = st.fixed_dictionaries({"skus": st.sets(st.sampled_from("abc")).map(sorted), "categories": st.just([])})
conditions = st.sampled_from([each for part in FULL["rules"][0]["when"].values() for each in part])
standings = {
    "plan": st.sampled_from(["open", "target", "exclusive"]),
    "priority": st.none() | st.integers(-9, 9),
    "when": st.fixed_dictionaries({}, optional=dict.fromkeys(ALWAYS, st.lists(conditions, max_size=2))),
}
rules = st.one_of(
    st.fixed_dictionaries(
        {
            "kind": st.just("percent"),
            "rate": st.decimals(0, 100, places=3).map(lambda rate: f"{rate:f}"),
            "match": matches,
        },
        optional=standings | {"cap_per_line": amounts},
    ),
    st.fixed_dictionaries(
        {"kind": st.just("flat"), "amounts": amounts.filter(bool), "match": matches},
        optional=standings | {"per": st.sampled_from(["line", "unit", "order"])},
    ),
)


@given(st.lists(rules, min_size=1, max_size=5), amounts, amounts, st.integers(0, 365))
def test_any_terms_come_back_from_the_domain_meaning_the_same(
    rules: list[Json], caps: list[Json], minimums: list[Json], days: int
) -> None:
    terms = TermsDocument.model_validate(
        {"rules": rules, "cap_per_order": caps, "payout_minimums": minimums, "notice_days": days}
    ).terms()

    shown = TermsDocument.model_validate(terms.as_json())

    assert Terms.of_json(shown.model_dump(mode="json")) == terms


def test_a_statement_calendar_is_shown_as_it_was_given(shop: Shop) -> None:
    program = shop.a_program(settlement=MONTHLY)

    assert program["version_in_force"]["terms"]["settlement"] == MONTHLY


def test_a_statement_that_would_be_paid_before_its_cut_off_is_refused(shop: Shop) -> None:
    answer = shop.post("/v1/programs", asked(terms=SMALL | {"settlement": MONTHLY | {"pay_day": 15}}))

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-terms")


@pytest.mark.parametrize(
    "change", [{"objection_days": 5}, {"auto_approve_days": 30}, {"advance": {"rate": "50"}}], ids=str
)
def test_a_settlement_that_contradicts_itself_is_refused(shop: Shop, change: Json) -> None:
    answer = shop.post("/v1/programs", asked(terms=SMALL | {"settlement": MONTHLY | change}))

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-terms")


def test_every_preset_can_be_published_as_it_is(shop: Shop) -> None:
    presets = shop.get("/v1/settlement-presets", by="read").json()["data"]

    shown = [
        shop.a_program(settlement=preset["settlement"])["version_in_force"]["terms"]["settlement"] for preset in presets
    ]

    assert shown == [preset["settlement"] for preset in presets]
    by_name = {preset["name"]: preset for preset in presets}
    assert by_name["topshare_vn"]["payout_minimums"] == [{"amount_minor": 200000, "currency": "VND"}]
    assert by_name["shopee_vn"]["settlement"]["objection_days"] == 57


def test_a_statement_is_paid_on_the_merchants_day(client: TestClient) -> None:
    shop = Shop(client, time_zone="Asia/Ho_Chi_Minh")
    monthly = MONTHLY | {
        "start": "paid",
        "hold_days": 0,
        "roll": "none",
        "cut_off_day": 31,
        "months_after": 1,
        "pay_day": 5,
    }
    program = shop.a_program(settlement=monthly)
    shop.a_coupon(shop.an_affiliate("Lan", program=program), "LAN", program=program)
    shop.deliver(shop.order(coupon_codes=["LAN"]))

    [commission] = shop.get("/v1/commissions").json()["data"]
    settles_at = datetime.fromisoformat(commission["settles_at"]).astimezone(ZoneInfo("Asia/Ho_Chi_Minh"))
    early = shop.post("/v1/jobs/settle").json()["settled"]
    shop.advance(seconds=(settles_at - shop.now()).total_seconds() + 1)
    due = shop.post("/v1/jobs/settle").json()["settled"]

    assert commission["reason_code"] == "awaiting_statement"
    assert (settles_at.day, settles_at.hour, settles_at.minute) == (5, 0, 0)
    assert (early, due) == (0, 1)


CAP = {"kind": "cap", "key": "most", "period": "month", "amounts": USD_50}
LADDER = {"kind": "ladder", "key": "volume", "period": "month", "steps": [{"from": USD_50, "rate": "1"}]}


@pytest.mark.parametrize(
    ("periods", "accepted"),
    [
        pytest.param([CAP, LADDER], True, id="the same again"),
        pytest.param([CAP | {"amounts": [{"amount_minor": 1, "currency": "USD"}]}], True, id="another amount"),
        pytest.param([], True, id="none any more"),
        pytest.param([CAP | {"period": "day"}], False, id="a month that becomes a day"),
        pytest.param([LADDER | {"last_day": "2027-03-31"}], False, id="a ladder that ends"),
        pytest.param([LADDER | {"key": "most"}], False, id="a cap that becomes a ladder"),
        pytest.param([CAP | {"key": "second"}], False, id="a second cap"),
    ],
)
def test_a_key_of_a_period_rule_stays_what_it_is(shop: Shop, periods: list[Json], accepted: bool) -> None:
    program = shop.post("/v1/programs", asked(terms=SMALL | {"periods": [CAP, LADDER]})).json()["program"]

    answer = shop.post(f"/v1/programs/{program['id']}/versions", {"terms": SMALL | {"periods": periods}})

    assert answer.status_code == (201 if accepted else 422)
    assert accepted or answer.json()["code"] == "invalid-terms"


def test_two_caps_of_one_programme_are_refused(shop: Shop) -> None:
    answer = shop.post("/v1/programs", asked(terms=SMALL | {"periods": [CAP, CAP | {"key": "daily", "period": "day"}]}))

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-terms")
