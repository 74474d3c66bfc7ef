"""What bodies in Shopify's shape have in common, whoever sends them: touches, the buyer, and sums over lists."""

from collections.abc import Callable
from decimal import Decimal

from service.domain.identity import Address
from service.domain.order import JsonObject
from service.intake.adapters.assemble import CLICK_PARAMETER, an_address, clicks_in, country_of, customer
from service.intake.adapters.model import NotUnderstood, Reading
from service.intake.adapters.parse import TOUCHES_MAX, URL_MAX, a_text, an_id, an_object, objects


def order_named(body: JsonObject) -> str:
    """The order an event speaks of without showing it: its own id, or that of an order_edit; empty if neither."""
    edit = an_object(body, "order_edit")
    of, key = (body, "id") if edit is None else (edit, "order_id")
    return "" if of.get(key) is None else an_id(of, key)


def click_ids(body: JsonObject) -> list[str]:
    """Click ids in cart attributes, by name or by look, then in the address the visit began with."""
    found = []
    for one in objects(body, "note_attributes"):
        value = one.get("value")
        # Attributes hold whatever a theme or the buyer writes: what is no text is no click id.
        if type(value) is str and (one.get("name") == CLICK_PARAMETER or value.startswith("clk_")):
            found.append(value)
    found += clicks_in(a_text(body, "landing_site", most=URL_MAX))
    if len(found) > TOUCHES_MAX:
        raise NotUnderstood("too_many", f"note_attributes: {len(found)} click ids; at most {TOUCHES_MAX} are read.")
    return found


def codes_of(body: JsonObject) -> list[str]:
    codes = objects(body, "discount_codes", most=TOUCHES_MAX)
    return [a_text(one, "code", f"discount_codes[{index}].") for index, one in enumerate(codes)]


def addresses_of(body: JsonObject) -> tuple[Address, ...]:
    """Where the goods go, then the bill. A shop in Viet Nam often fills a province in place of a city."""
    found = [body.get(name) for name in ("shipping_address", "billing_address")]
    return tuple(an_address(each, city=("city", "province")) for each in found if type(each) is dict)


def customer_of(body: JsonObject, reading: Reading, addresses: tuple[Address, ...]) -> tuple[tuple[str, str], ...]:
    """The account's identities; a guest's are on the order itself, or in the address of the goods or the bill."""
    account = an_object(body, "customer") or {}
    known = {"id": account.get("id")} | {kind: account.get(kind) or body.get(kind) for kind in ("email", "phone")}
    if not known["phone"]:
        phones = [
            of.get("phone") for of in (body.get("shipping_address"), body.get("billing_address")) if type(of) is dict
        ]
        known["phone"] = next((phone for phone in phones if type(phone) in {str, int} and phone), None)
    return customer(known, reading, "customer.", addresses=addresses, country=country_of(addresses))


def summed(
    of: JsonObject, entries: str, key: str, where: str, *, amount: Callable[[JsonObject, str, str], Decimal]
) -> Decimal:
    """The sum of one amount over a list, none of them below zero."""
    total = Decimal(0)
    for index, one in enumerate(objects(of, entries, where)):
        inner = f"{where}{entries}[{index}]."
        value = amount(one, key, inner)
        if value < 0:
            raise NotUnderstood("negative_amount", f"{inner}{key}: {value} is below zero.")
        total += value
    return total
