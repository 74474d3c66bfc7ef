"""t.js in a real browser: from the click to the order that it earns, and what it keeps, hands over and leaves alone."""

from typing import Any, cast
from urllib.parse import urlsplit

import httpx2
import pytest
from starlette.testclient import TestClient

from tests.support import running
from tests.support.shop import Shop
from tests.support.site import Site
from tests.support.squeezed import SERVED

LANDING = "https://shop.example/p/1"
CLICK = "clk_" + "a" * 40
LATER = "clk_" + "b-_9" * 10
CHECKOUT = '<form action="/checkout" method="post"><input name="email"><button>Buy</button></form>'


def page_with(body: str = CHECKOUT, *, head: str = "", script: str = "/t.js", **data: str) -> str:
    """A page of the shop. data: attributes of the script's tag."""
    attributes = "".join(f' data-{name}="{value}"' for name, value in data.items())
    return f'<!doctype html><head>{head}<script src="{script}"{attributes}></script></head><body>{body}</body>'


@pytest.fixture
def pages(shop_site: Site, visitor: Any) -> dict[str, str]:
    """The shop's pages by path; it has a copy of the script at /t.js."""
    shop_site.pages["/t.js"] = SERVED.read_text()
    visitor.route("**/t.js", lambda route: route.fulfill(content_type="text/javascript", body=SERVED.read_text()))
    return shop_site.pages


def cookie(page: Any) -> dict[str, Any] | None:
    """The cookie that the script keeps, if it keeps one."""
    [*found] = [each for each in page.context.cookies() if each["name"] == "koc_click"]
    return dict(found[0]) if found else None


def kept(page: Any) -> str:
    found = cookie(page)
    return found["value"] if found else ""


def click_id(page: Any) -> str:
    return str(page.evaluate("koc.click()"))


def buy(page: Any, shop_site: Site) -> dict[str, str]:
    """Send the page's form; return what the shop got."""
    with page.expect_navigation():
        page.click("button")
    return shop_site.sent[-1][1]


def test_a_visitor_who_buys_two_pages_later_earns_the_affiliate_a_commission(
    service: running.Running, operator_key: str, visitor: Any, shop_site: Site
) -> None:
    with httpx2.Client(base_url=service.url) as client:
        shop = Shop(cast("TestClient", client), operator_key=operator_key)
        lan = shop.an_affiliate("Lan")
        link = shop.a_link(lan, url=LANDING)
        script = f"{service.url}/t.js"
        shop_site.pages["/p/1"] = page_with('<a id="on" href="/cart">Cart</a>', script=script)
        shop_site.pages["/cart"] = page_with(script=script)

        visitor.goto(f"{service.url}/r/{link['code']}")
        visitor.click("#on")
        visitor.wait_for_url("**/cart")
        fields = buy(visitor, shop_site)
        shop.an_order("1001", click_ids=[fields["koc_click"]])

        [commission] = shop.get("/v1/commissions", by="read").json()["data"]
        [pending] = shop.get("/v1/me/earnings", by=lan["id"]).json()["data"]
        [click] = shop.get("/v1/clicks", by="read", link_id=link["id"]).json()["data"]
    assert commission["affiliate_id"] == lan["id"]
    assert pending["pending"]["amount_minor"] == 1000
    assert fields["koc_click"] == click["id"]
    hosts = {urlsplit(url).netloc for url in visitor.requests}
    assert hosts == {"shop.example", urlsplit(service.url).netloc}


def test_the_id_is_kept_first_party_for_the_days_the_shop_says(visitor: Any, pages: dict[str, str]) -> None:
    pages["/p/1"] = page_with(days="7")

    visitor.goto(f"{LANDING}?koc_click={CLICK}")

    found = cookie(visitor)
    assert found is not None
    now = visitor.evaluate("Date.now() / 1000")
    assert (found["value"], found["domain"], found["sameSite"]) == (CLICK, "shop.example", "Lax")
    assert (found["secure"], found["path"]) == (True, "/")
    assert 6.9 < (found["expires"] - now) / 86400 <= 7


def test_pages_of_the_whole_domain_share_it_where_the_shop_says_so(visitor: Any, pages: dict[str, str]) -> None:
    pages["/p/1"] = page_with(domain="shop.example")

    visitor.goto(f"{LANDING}?koc_click={CLICK}")
    visitor.goto("https://checkout.shop.example/p/1")

    assert click_id(visitor) == CLICK


@pytest.mark.parametrize(
    "query",
    ["koc_click=", "koc_click=" + "a" * 65, "koc_click=a%20b", "koc_click=<b>", "koc_clicks=abc", "xkoc_click=abc"],
)
def test_what_is_no_click_id_is_left_alone(visitor: Any, pages: dict[str, str], query: str) -> None:
    pages["/p/1"] = page_with()

    visitor.goto(f"{LANDING}?{query}")

    assert (click_id(visitor), kept(visitor)) == ("", "")


def test_the_last_click_wins_but_going_back_is_no_click(visitor: Any, pages: dict[str, str], shop_site: Site) -> None:
    shop_site.headers["cache-control"] = "no-store"
    pages["/p/1"] = page_with()

    visitor.goto(f"{LANDING}?koc_click={CLICK}")
    visitor.goto(f"{LANDING}?koc_click={LATER}")
    assert kept(visitor) == LATER
    visitor.go_back()

    assert CLICK in visitor.url
    assert (click_id(visitor), kept(visitor)) == (LATER, LATER)


def test_forms_that_come_later_or_ask_for_it_by_name_get_it_too(
    visitor: Any, pages: dict[str, str], shop_site: Site
) -> None:
    pages["/p/1"] = page_with('<div id="here"></div><form id="news" action="/news"></form>')
    visitor.goto(f"{LANDING}?koc_click={CLICK}")

    visitor.evaluate(
        """here.innerHTML = '<form action="/order" method="post" data-koc="attributes[koc_click]"><button>Buy</button>'"""
    )
    fields = buy(visitor, shop_site)

    assert fields == {"attributes[koc_click]": CLICK}


def test_forms_that_are_no_checkout_are_left_alone(visitor: Any, pages: dict[str, str], shop_site: Site) -> None:
    pages["/p/1"] = page_with('<form action="/news" method="post"><input name="email"><button>Go</button></form>')
    visitor.goto(f"{LANDING}?koc_click={CLICK}")

    assert buy(visitor, shop_site) == {"email": ""}


def test_payment_links_carry_it_as_their_reference(visitor: Any, pages: dict[str, str], shop_site: Site) -> None:
    pages["/p/1"] = page_with(
        '<a id="pay" href="https://buy.stripe.com/test_1?locale=vi&amp;a=b%20c">Pay</a>'
        '<a id="own" href="https://buy.stripe.com/test_1?client_reference_id=order-7">Pay</a>'
        '<stripe-pricing-table pricing-table-id="p"></stripe-pricing-table>'
        '<stripe-buy-button client-reference-id="order-8"></stripe-buy-button>'
    )

    visitor.goto(f"{LANDING}?koc_click={CLICK}")

    assert visitor.get_attribute("#own", "href").endswith("?client_reference_id=order-7")
    assert visitor.get_attribute("stripe-pricing-table", "client-reference-id") == CLICK
    assert visitor.get_attribute("stripe-buy-button", "client-reference-id") == "order-8"
    with visitor.expect_navigation():
        visitor.click("#pay")
    assert f"https://buy.stripe.com/test_1?locale=vi&a=b%20c&client_reference_id={CLICK}" in shop_site.asked


def test_a_shopify_cart_gets_it_once(visitor: Any, pages: dict[str, str], shop_site: Site) -> None:
    pages["/p/1"] = page_with(head="<script>window.Shopify = {routes: {root: '/'}}</script>")

    with visitor.expect_response("**/cart/update.js"):
        visitor.goto(f"{LANDING}?koc_click={CLICK}")
    assert shop_site.cart == {"koc_click": CLICK}
    with visitor.expect_response("**/cart.js"):
        visitor.goto(LANDING)
    visitor.wait_for_load_state("networkidle")

    assert len([url for url in visitor.requests if url.endswith("/cart/update.js")]) == 1


def test_a_visitor_without_a_click_costs_the_cart_no_request(visitor: Any, pages: dict[str, str]) -> None:
    pages["/p/1"] = page_with(head="<script>window.Shopify = {}</script>")

    visitor.goto(LANDING)
    visitor.wait_for_load_state("networkidle")

    assert [url for url in visitor.requests if "cart" in url] == []


NO_COOKIES = "<script>Object.defineProperty(document, 'cookie', {get: () => '', set: () => {}})</script>"


def test_without_cookies_it_goes_along_from_page_to_page(visitor: Any, pages: dict[str, str], shop_site: Site) -> None:
    pages["/p/1"] = page_with(
        '<a id="top" href="#">Top</a><a id="part" href="#part">Part</a>'
        '<a id="away" href="https://elsewhere.example/">Away</a><a id="mail" href="mailto:a@shop.example">Mail</a>'
        '<a id="on" href="/basket?size=s#list">Cart</a>',
        head=NO_COOKIES,
    )
    pages["/basket"] = page_with(head=NO_COOKIES)
    visitor.goto(f"{LANDING}?koc_click={CLICK}")

    visitor.click("#on")
    visitor.wait_for_url("**/basket?**")
    fields = buy(visitor, shop_site)

    assert f"https://shop.example/basket?size=s&koc_click={CLICK}" in shop_site.asked
    assert fields["koc_click"] == CLICK
    visitor.go_back()
    visitor.go_back()
    hrefs = [visitor.get_attribute(f"#{name}", "href") for name in ("top", "part", "away", "mail")]
    assert hrefs == ["#", "#part", "https://elsewhere.example/", "mailto:a@shop.example"]


def test_with_cookies_links_stay_as_they_are(visitor: Any, pages: dict[str, str]) -> None:
    pages["/p/1"] = page_with('<a id="on" href="/basket">Cart</a>')

    visitor.goto(f"{LANDING}?koc_click={CLICK}")
    visitor.hover("#on")

    assert visitor.get_attribute("#on", "href") == "/basket"


@pytest.mark.parametrize("signal", ["attribute", "browser", "stub"])
def test_nothing_is_kept_or_handed_on_before_consent(
    visitor: Any, pages: dict[str, str], shop_site: Site, signal: str
) -> None:
    head = {
        "attribute": "",
        "browser": "<script>Object.defineProperty(navigator, 'globalPrivacyControl', {value: true})</script>",
        "stub": "<script>window.koc = {consent: false}</script>",
    }[signal]
    attributes = {"consent": "required"} if signal == "attribute" else {}
    shopify = "<script>window.Shopify = {}</script>"
    link = '<a id="pay" href="https://buy.stripe.com/test_1">Pay</a><a id="on" href="/basket">On</a>'
    pages["/p/1"] = page_with(CHECKOUT + link, head=head + shopify, **attributes)

    visitor.goto(f"{LANDING}?koc_click={CLICK}")
    visitor.wait_for_load_state("networkidle")

    assert (click_id(visitor), kept(visitor)) == ("", "")
    assert visitor.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
    assert visitor.get_attribute("#pay", "href") == "https://buy.stripe.com/test_1"
    assert visitor.get_attribute("#on", "href") == "/basket"
    assert shop_site.cart == {}
    assert buy(visitor, shop_site) == {"email": ""}


def test_consent_given_on_the_page_is_as_good_as_before_it(
    visitor: Any, pages: dict[str, str], shop_site: Site
) -> None:
    pages["/p/1"] = page_with(head="<script>window.Shopify = {}</script>", consent="required")
    visitor.goto(f"{LANDING}?koc_click={CLICK}")

    with visitor.expect_response("**/cart/update.js"):
        visitor.evaluate("koc.consent(true)")

    assert (click_id(visitor), kept(visitor)) == (CLICK, CLICK)
    assert shop_site.cart == {"koc_click": CLICK}
    assert buy(visitor, shop_site)["koc_click"] == CLICK


def test_what_was_kept_waits_until_consent_is_told_again(visitor: Any, pages: dict[str, str]) -> None:
    pages["/p/1"] = page_with(consent="required")
    visitor.goto(f"{LANDING}?koc_click={CLICK}")
    visitor.evaluate("koc.consent(true)")

    visitor.goto(LANDING)

    assert (click_id(visitor), kept(visitor)) == ("", CLICK)
    visitor.evaluate("koc.consent(true)")
    assert click_id(visitor) == CLICK


@pytest.mark.parametrize("head", ["", NO_COOKIES], ids=["kept", "carried"])
def test_withdrawing_takes_back_what_was_kept_and_handed_over(
    visitor: Any, pages: dict[str, str], shop_site: Site, head: str
) -> None:
    body = (
        f'{CHECKOUT}<a id="pay" href="https://buy.stripe.com/test_1">Pay</a><a id="on" href="/basket?a=1">On</a>'
        "<stripe-pricing-table></stripe-pricing-table>"
    )
    pages["/p/1"] = page_with(body, head=f"<script>window.Shopify = {{}}</script>{head}")
    with visitor.expect_response("**/cart/update.js"):
        visitor.goto(f"{LANDING}?koc_click={CLICK}")
    assert CLICK in visitor.get_attribute("#pay", "href")

    with visitor.expect_response("**/cart/update.js"):
        visitor.evaluate("koc.consent(false)")

    assert (click_id(visitor), kept(visitor)) == ("", "")
    assert shop_site.cart == {"koc_click": ""}
    assert CLICK not in visitor.get_attribute("#pay", "href")
    assert CLICK not in visitor.get_attribute("#on", "href")
    assert not visitor.get_attribute("stripe-pricing-table", "client-reference-id")
    assert buy(visitor, shop_site) == {"email": "", "koc_click": ""}


def test_the_shops_own_code_hears_of_it(visitor: Any, pages: dict[str, str]) -> None:
    listen = "<script>heard = []; document.addEventListener('koc:click', e => heard.push(e.detail))</script>"
    pages["/p/1"] = page_with(head=listen)

    visitor.goto(f"{LANDING}?koc_click={CLICK}")
    visitor.evaluate("koc.consent(false)")

    assert visitor.evaluate("heard") == [CLICK, ""]


def test_twice_on_a_page_is_as_good_as_once(visitor: Any, pages: dict[str, str], shop_site: Site) -> None:
    pages["/p/1"] = page_with('<script src="/t.js"></script>' + CHECKOUT, consent="required")

    visitor.goto(f"{LANDING}?koc_click={CLICK}")

    assert click_id(visitor) == ""
    visitor.evaluate("koc.consent(true)")
    assert buy(visitor, shop_site) == {"email": "", "koc_click": CLICK}


def test_a_page_in_a_sandbox_takes_no_harm(visitor: Any, pages: dict[str, str]) -> None:
    pages["/p/1"] = "<!doctype html><iframe sandbox='allow-scripts' src='/framed?koc_click=" + CLICK + "'></iframe>"
    pages["/framed"] = page_with()

    visitor.goto(LANDING)

    assert visitor.frames[1].evaluate("koc.click()") == CLICK
