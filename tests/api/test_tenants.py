"""Nobody sees or changes what is another's: every operation, asked by six, for ids that are not theirs.

The requests are made from the API's description, so a new operation is tried without a line here. Where its schema does
not tell enough to make a request that is understood, give its fields examples.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from httpx2 import Response
from sqlalchemy import Engine
from starlette.testclient import TestClient

from service.infra.db import fetch, read_session
from tests.support.asking import Json, Operation, Sent, Slot, operations, random_id
from tests.support.tenants import Ids, Tenant, raw, rows_of

NOT_ABOUT_IDS = {
    "create_payout_run": "names some of those who can be paid now; nobody else's affiliate is one of them: 409",
    "verify_receipt": "computes what was sent again, and looks nothing up",
}
"""Operations whose bodies narrow a choice, as the filters of lists do, and why another's id finds nothing there."""


@dataclass
class Asker:
    """One of the six. own: ids it may use. foreign: ids it must get nothing by. words: what it must never read."""

    name: str
    headers: Mapping[str, str]
    own: Ids
    foreign: Ids
    words: Sequence[Tenant]
    external: str
    unseen: Sequence[str] = field(default_factory=list)


def test_no_operation_gives_or_takes_what_is_anothers(client: TestClient, engine: Engine) -> None:
    document: Json = client.get("/openapi.json").json()
    every = operations(document)
    a, b = Tenant.settled(client, "a"), Tenant.settled(client, "b")
    a_seen, b_seen = a.seen_by("admin", every), b.seen_by("admin", every)
    ann, ben = a.affiliates
    anns, bens = a.seen_by(ann, every), a.seen_by(ben, every)
    bens_alone = {kind: [one for one in known if one not in anns.get(kind, [])] for kind, known in bens.items()}
    # What all kinds of b's are hidden by must be there to be found.
    assert {
        "aff",
        "prg",
        "lnk",
        "cpn",
        "ord",
        "com",
        "pst",
        "run",
        "pay",
        "pmt",
        "enr",
        "acc",
        "rof",
        "sim",
        "key",
        "src",
        "inb",
        "evt",
        "aud",
        "clm",
        "bud",
        "stm",
        "srn",
        "sba",
        "bcl",
        "rec",
        "rdf",
        "pfl",
    } <= set(b_seen)
    assert {"aff", "lnk", "cpn", "rof", "ord", "com", "pay", "clm", "stm"} <= {
        kind for kind, known in bens_alone.items() if known
    }
    finance = a.shop.post(
        "/v1/api-keys", {"name": "Finance", "scopes": ["read", "finance-maker", "finance-checker"]}
    ).json()["key"]
    b_external = b.text("external")
    askers = [
        Asker("nobody", {}, {}, b_seen, [a, b], b_external),
        Asker("the operator", a.shop.key_of("operator"), {}, b_seen, [a, b], b_external),
        Asker("a's admin", a.shop.key_of("admin"), a_seen, b_seen, [b], b_external),
        Asker("a's finance", {"Authorization": f"Bearer {finance}"}, a_seen, b_seen, [b], b_external),
        Asker("a's affiliate", a.shop.key_of(ann), {**a_seen, **anns}, {**b_seen, **bens_alone}, [b], b_external),
        Asker("b's admin", b.shop.key_of("admin"), b_seen, a_seen, [a], a.text("external")),
    ]
    # An affiliate must read nothing of its merchant's other one either.
    askers[4].unseen = [
        a.text(f"{name}-2")
        for name in ("name", "mail", "about", "sub", "link", "coupon", "code", "tier", "sku", "claimed", "claim")
    ] + [one for known in bens_alone.values() for one in known]
    counted: Counter[str] = Counter()
    leaks: list[str] = []
    for asker in askers:
        victim = a if asker.name == "b's admin" else b
        before = rows_of(engine, victim.shop.id)
        ben_before = rows_of(engine, a.shop.id, about=raw(bens_alone["aff"] + bens_alone["lnk"]))
        for operation in every:
            if operation.owner in {"public", "operator" if asker.name == "the operator" else "public"}:
                continue
            counted["operations"] += asker.name == "nobody"
            for sent, strict in requests(operation, asker):
                answer = client.request(sent.method, sent.url, json=sent.body, headers=dict(asker.headers))
                counted["requests"] += 1
                counted["ids"] += strict
                leaks += judged(asker, operation, sent, answer, strict=strict)
        if rows_of(engine, victim.shop.id) != before:
            leaks.append(f"{asker.name} changed rows of {victim.word}")
        if asker.name == "a's affiliate":
            changed = rows_of(engine, a.shop.id, about=raw(bens_alone["aff"] + bens_alone["lnk"])) != ben_before
            leaks += [f"{asker.name} changed rows of another affiliate"] if changed else []

    print(
        f"tenants: {counted['operations']} operations x {len(askers)} callers, {counted['requests']} requests, "
        f"{counted['ids']} with another's id, {len(leaks)} leaks"
    )
    assert leaks == [], "\n".join(leaks)
    assert counted["operations"] > 80


def requests(operation: Operation, asker: Asker) -> list[tuple[Sent, bool]]:
    """The requests of one asker: none of the ids its own, and each one in turn another's among its own ones, if it has any.

    Each with whether it names another's thing in its path or body, where it has to be refused.
    """
    slots = operation.slots()
    if not slots:
        return [(operation.made(lambda _: None, words=_words), False)]
    made: list[tuple[Sent, bool]] = []
    choices = [set(range(len(slots)))]
    if len(slots) > 1 and asker.own:
        choices += [{number} for number in range(len(slots))]
    for strange in choices:
        # One is enough to see that somebody is not let in at all.
        for pool in ("foreign", "random") if len(strange) == len(slots) and asker.own else ("foreign",):
            numbers = count()

            def fill(slot: Slot, pool: str = pool, strange: set[int] = strange) -> str | None:
                is_strange = next(numbers) in strange  # noqa: B023 - used up before the next turn
                if slot.kind == "external":
                    return asker.external if pool == "foreign" else "nobody's"
                if not is_strange:
                    return next(iter(asker.own.get(slot.kind, ())), random_id(slot.kind, 1))
                known = asker.foreign.get(slot.kind, ()) if pool == "foreign" else ()
                return next(iter(known), random_id(slot.kind, 2))

            # Nothing is to be learnt by a filter, but it may be asked for; external ids are each merchant's own.
            strict = (
                any(slots[number].place != "query" and slots[number].kind != "external" for number in strange)
                and operation.id not in NOT_ABOUT_IDS
            )
            made.append((operation.made(fill, words=_words), strict))
    return made


_words = count(1)


def refused_in_its_body(answer: Response) -> bool:
    """Whether a list was taken and each item of it refused, or a thing of the asker's own stands in the way first."""
    told = answer.json()
    nothing_done = answer.status_code == 200 and told.get("succeeded") == 0
    return nothing_done or (answer.status_code == 409 and told.get("code") == "fixed-once-made")


def judged(asker: Asker, operation: Operation, sent: Sent, answer: Response, *, strict: bool) -> list[str]:
    """What is wrong with an answer."""
    told = f"{answer.text} {dict(answer.headers)}"
    who = f"{asker.name} by {sent.method.upper()} {sent.url}"
    wrong = []
    if answer.status_code >= 500:
        wrong.append(f"{who} got {answer.status_code}")
    must_be_refused = strict or asker.name in {"nobody", "the operator"}
    if must_be_refused and answer.status_code not in {401, 403, 404} and not refused_in_its_body(answer):
        wrong.append(f"{who} got {answer.status_code}: {answer.text[:200]}")
    read = {word for tenant in asker.words for word in tenant.canaries.findall(told)}
    read |= {one for known in asker.foreign.values() for one in known if one in told}
    read |= {one for one in asker.unseen if one in told}
    # A merchant may have an external id that another one has too, and gave one here.
    wrong += [f"{who} read {one}" for one in sorted(read - {asker.external}) if one not in sent.text]
    return wrong


def test_every_change_by_a_rightful_key_leaves_its_trace(client: TestClient, engine: Engine) -> None:
    document: Json = client.get("/openapi.json").json()
    every = operations(document)
    tenant = Tenant.settled(client, "a")
    seen = tenant.seen_by("admin", every)
    own = {**seen, **tenant.seen_by(tenant.affiliates[0], every)}
    words = count(1)
    misunderstood: list[str] = []
    done: list[tuple[str, str]] = []
    # What is deleted can be changed no more.
    for operation in sorted(every, key=lambda each: each.method == "delete"):
        if operation.method == "get" or operation.owner in {"public", "source"}:
            continue
        role = role_of(operation, tenant)
        is_affiliate = role.startswith("aff_")

        def fill(slot: Slot, *, is_affiliate: bool = is_affiliate) -> str | None:
            known = own if is_affiliate else seen
            return tenant.text("external") if slot.kind == "external" else next(iter(known.get(slot.kind, ())), None)

        sent = operation.made(fill, words=words)
        answer = client.request(sent.method, sent.url, json=sent.body, headers=tenant.shop.key_of(role))
        if answer.is_success:
            done.append((operation.id, answer.headers["x-request-id"]))
        elif answer.status_code != 409:
            misunderstood.append(f"{operation.id} by {role}: {answer.status_code} {answer.text[:300]}")
    with read_session(engine) as session:
        kept = {(row.operation, row.request_id) for row in fetch(session, "SELECT operation, request_id FROM audit")}

    assert misunderstood == [], "\n".join(misunderstood)
    assert [one for one in done if one not in kept] == []
    assert len(done) > 25


def role_of(operation: Operation, tenant: Tenant) -> str:
    """A role that the description says may ask."""
    _, _, scopes = operation.described["description"].rpartition("Needs a key with the scope ")
    first = scopes.split("`")[1]
    return tenant.affiliates[0] if first == "affiliate" else first
