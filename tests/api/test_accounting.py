"""What accounting calls our accounts, over HTTP."""

from tests.support.shop import Shop

PENDING = {"account": "pending", "code": "3351", "name": "Hoa hồng chờ"}


def test_accounts_have_usual_names_until_the_merchant_says_otherwise(shop: Shop) -> None:
    before = shop.get("/v1/accounting/accounts", by="read").json()["accounts"]

    after = shop.put("/v1/accounting/accounts", {"accounts": [PENDING]}).json()["accounts"]

    assert all(each["usual"] for each in before)
    assert [each for each in after if not each["usual"]] == [PENDING | {"usual": False}]
    assert shop.get("/v1/accounting/accounts").json()["accounts"] == after


def test_saying_it_anew_replaces_what_was_said(shop: Shop) -> None:
    shop.put("/v1/accounting/accounts", {"accounts": [PENDING]})

    after = shop.put("/v1/accounting/accounts", {"accounts": []}).json()["accounts"]

    assert after
    assert all(each["usual"] for each in after)


def test_only_admins_name_accounts_and_each_once(shop: Shop) -> None:
    refused = shop.put("/v1/accounting/accounts", {"accounts": [PENDING]}, by="finance-maker")
    twice = shop.put("/v1/accounting/accounts", {"accounts": [PENDING, PENDING]})
    formula = shop.put("/v1/accounting/accounts", {"accounts": [PENDING | {"code": "=1"}]})

    assert [refused.status_code, twice.status_code, formula.status_code] == [403, 422, 422]


def test_a_change_can_hang_on_what_was_seen(shop: Shop) -> None:
    seen = shop.get("/v1/accounting/accounts").headers["etag"]
    headers = shop.key_of("admin") | {"If-Match": seen}

    first = shop.client.put("/v1/accounting/accounts", json={"accounts": [PENDING]}, headers=headers)
    second = shop.client.put("/v1/accounting/accounts", json={"accounts": []}, headers=headers)

    assert [first.status_code, second.status_code] == [200, 412]


def test_the_trail_tells_who_named_accounts(shop: Shop) -> None:
    shop.put("/v1/accounting/accounts", {"accounts": [PENDING]})

    [row] = shop.get("/v1/audit", operation="put_accounting_accounts").json()["data"]

    assert (row["kind"], row["subject"], row["before"]["accounts"]) == ("accounting_chart", shop.id, {})
    assert row["after"]["accounts"] == {"pending": {"code": "3351", "name": "Hoa hồng chờ"}}
