"""Dated inputs of what orders name: their links and coupons, who the customer is, which products were bought."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from uuid import UUID

from sqlmodel import Session

from service.domain.dated import Binding, DatedInputs, Listing, Owner, Traceable
from service.domain.marks import ContentType, Label
from service.domain.order import OrderFacts, TouchKind
from service.infra.db import fetch

_Pair = tuple[UUID, UUID]


def load(session: Session, orders: Mapping[_Pair, OrderFacts], inputs: dict[UUID, DatedInputs]) -> None:
    """Fill in links, coupons, bindings and lists of customers, as far as orders, given by (merchant, order), name them."""
    links: set[_Pair] = set()
    coupons: set[tuple[UUID, str]] = set()
    customers: set[tuple[UUID, str, str]] = set()
    skus: set[tuple[UUID, str]] = set()
    for (merchant_id, _), facts in orders.items():
        if facts.snapshot is None:
            continue
        for touch in facts.snapshot.touches:
            if touch.kind is TouchKind.COUPON:
                coupons.add((merchant_id, touch.ref))
            elif touch.link_id is not None:
                links.add((merchant_id, touch.link_id))
        customers.update((merchant_id, kind, hashed) for kind, hashed in facts.snapshot.customer)
        skus.update((merchant_id, line.sku) for line in facts.snapshot.lines if line.sku)
    if links:
        _load_links(session, links, inputs)
    if coupons:
        _load_coupons(session, coupons, inputs)
    if customers or skus:
        _load_bindings(session, customers, skus, inputs)


def bindings_of(inputs: DatedInputs) -> Iterator[Binding]:
    """Yield all bindings, of customers and of products."""
    for states in (*inputs.customer_bindings.values(), *inputs.product_bindings.values()):
        yield from states


def _load_links(session: Session, links: set[_Pair], inputs: dict[UUID, DatedInputs]) -> None:
    asked = sorted(links)
    # Owners and labels in one statement; a label has no affiliate.
    rows = fetch(
        session,
        """
        WITH asked AS (
            SELECT link.merchant_id, link.id, link.program_id
            FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:ids AS uuid[])) AS asked (merchant_id, id)
            JOIN link ON link.merchant_id = asked.merchant_id AND link.id = asked.id
        )
        SELECT asked.merchant_id, asked.id, asked.program_id, valid_from, affiliate_id,
               NULL AS content_type, NULL AS channel, CAST(NULL AS jsonb) AS sub_ids
        FROM asked JOIN link_owner ON link_owner.merchant_id = asked.merchant_id AND link_owner.link_id = asked.id
        UNION ALL
        SELECT asked.merchant_id, asked.id, asked.program_id, valid_from, NULL, content_type, channel, sub_ids
        FROM asked JOIN link_label ON link_label.merchant_id = asked.merchant_id AND link_label.link_id = asked.id
        ORDER BY valid_from
        """,
        {"merchant_ids": [each for each, _ in asked], "ids": [each for _, each in asked]},
    )
    owners: dict[tuple[UUID, UUID, UUID], list[Owner]] = defaultdict(list)
    labels: dict[_Pair, list[Label]] = defaultdict(list)
    for row in rows:
        if row.affiliate_id is not None:
            owners[row.merchant_id, row.id, row.program_id].append(Owner(row.valid_from, row.affiliate_id))
        else:
            content_type = None if row.content_type is None else ContentType(row.content_type)
            label = Label(row.valid_from, content_type, row.channel, tuple(sorted(row.sub_ids.items())))
            labels[row.merchant_id, row.id].append(label)
    for (merchant_id, link_id, program_id), each in owners.items():
        marked = tuple(labels[merchant_id, link_id])
        inputs[merchant_id].links[link_id] = Traceable(link_id, program_id, tuple(each), marked)


def _load_coupons(session: Session, coupons: set[tuple[UUID, str]], inputs: dict[UUID, DatedInputs]) -> None:
    asked = sorted(coupons)
    rows = fetch(
        session,
        """
        SELECT coupon.merchant_id, coupon.id, coupon.folded, coupon.program_id, coupon_owner.valid_from,
               coupon_owner.affiliate_id
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:codes AS text[])) AS asked (merchant_id, folded)
        JOIN coupon ON coupon.merchant_id = asked.merchant_id AND coupon.folded = asked.folded
        JOIN coupon_owner ON coupon_owner.merchant_id = coupon.merchant_id AND coupon_owner.coupon_id = coupon.id
        ORDER BY coupon_owner.valid_from
        """,
        {"merchant_ids": [each for each, _ in asked], "codes": [each for _, each in asked]},
    )
    owners: dict[tuple[UUID, str, UUID, UUID], list[Owner]] = defaultdict(list)
    for row in rows:
        owners[row.merchant_id, row.folded, row.id, row.program_id].append(Owner(row.valid_from, row.affiliate_id))
    for (merchant_id, code, coupon_id, program_id), each in owners.items():
        inputs[merchant_id].coupons[code] = Traceable(coupon_id, program_id, tuple(each))


def _load_bindings(
    session: Session,
    customers: set[tuple[UUID, str, str]],
    skus: set[tuple[UUID, str]],
    inputs: dict[UUID, DatedInputs],
) -> None:
    # Not sorted, as nothing is locked: they are many, and comparing ids costs more than asking for them.
    by_customer, by_sku = list(customers), list(skus)
    # One statement for three lists, since most merchants keep none of them: what a row is of, one of its columns tells.
    rows = fetch(
        session,
        """
        WITH asked AS (
            SELECT * FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:kinds AS text[]), CAST(:hashes AS text[]))
                          AS asked (merchant_id, kind, hash)
        )
        SELECT asked.merchant_id, asked.kind, asked.hash, NULL AS sku, NULL AS name, valid_from, affiliate_id,
               program_id, until, CAST(NULL AS boolean) AS listed
        FROM asked JOIN customer_binding AS binding
          ON binding.merchant_id = asked.merchant_id AND binding.kind = asked.kind AND binding.hash = asked.hash
        UNION ALL
        SELECT asked.merchant_id, asked.kind, asked.hash, NULL, name, valid_from, NULL, NULL, NULL, listed
        FROM asked JOIN customer_listing AS listing
          ON listing.merchant_id = asked.merchant_id AND listing.kind = asked.kind AND listing.hash = asked.hash
        UNION ALL
        SELECT binding.merchant_id, NULL, NULL, binding.sku, NULL, valid_from, affiliate_id, program_id, until, NULL
        FROM unnest(CAST(:sku_merchant_ids AS uuid[]), CAST(:skus AS text[])) AS asked (merchant_id, sku)
        JOIN product_binding AS binding ON binding.merchant_id = asked.merchant_id AND binding.sku = asked.sku
        ORDER BY valid_from, name
        """,
        {
            "merchant_ids": [each for each, _, _ in by_customer],
            "kinds": [each for _, each, _ in by_customer],
            "hashes": [each for _, _, each in by_customer],
            "sku_merchant_ids": [each for each, _ in by_sku],
            "skus": [each for _, each in by_sku],
        },
    )
    for row in rows:
        each, customer = inputs[row.merchant_id], (row.kind, row.hash)
        if row.name is not None:
            listing = Listing(row.valid_from, row.name, row.listed)
            each.listings[customer] = (*each.listings.get(customer, ()), listing)
            continue
        binding = Binding(row.valid_from, row.affiliate_id, row.program_id, row.until)
        if row.sku is not None:
            each.product_bindings[row.sku] = (*each.product_bindings.get(row.sku, ()), binding)
        else:
            each.customer_bindings[customer] = (*each.customer_bindings.get(customer, ()), binding)
