"""Merchants with something of everything, each of whose words can be told from the other's."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from starlette.testclient import TestClient

from service.api.deps import Service
from service.domain.correction import CorrectionKind, CorrectionState
from service.infra import ids
from service.infra.clock import utc_now
from service.infra.db import fetch, read_session, unit_of_work
from service.infra.security import Security
from service.intake.reconcile_file import read_files
from service.payouts import files
from service.payouts.providers import FILE_RAILS
from service.reports import reconcile
from service.reports.jobs import make
from service.reports.simulate import advance
from service.tables.taxes import CorrectionRow
from tests.support.asking import ANY_ID, Operation, Slot
from tests.support.payout_files import give_account
from tests.support.shop import Shop

Json = dict[str, Any]
Ids = Mapping[str, Sequence[str]]
"""Public ids by their prefix."""

_NOTES = ("last_used_at", "last_delivery_at")
"""Columns that are written aside at any time."""


@dataclass
class Tenant:
    """A merchant. word: stands in every text of it, and in no other's."""

    shop: Shop
    word: str
    affiliates: list[str] = field(default_factory=list)

    @classmethod
    def settled(cls, client: TestClient, word: str) -> "Tenant":
        shop = Shop(client, name=f"canary-{word}-merchant")
        self = cls(shop, word)
        # Before those of affiliates: the newest key is the first to be tried on, and revoked.
        for role in ("read", "finance-maker", "finance-checker"):
            shop.key_of(role)
        program = _made(
            shop.post(
                "/v1/programs",
                {
                    "name": self.text("program"),
                    "terms": {"rules": [{"kind": "percent", "rate": "10"}]},
                    "valid_from": shop.opened_at.isoformat(),
                    "allowed_domains": [f"canary-{word}-domain.example", "shop.example"],
                    "fallback_url": f"https://canary-{word}-domain.example/",
                    "disclosure": self.text("disclosure"),
                    "external_id": self.text("external"),
                },
            )
        )["program"]
        endpoint = _made(shop.post("/v1/webhook-endpoints", {"url": f"https://canary-{word}-hooks.example/"}))
        shop.post(f"/v1/webhook-endpoints/{endpoint['webhook_endpoint']['id']}/ping")
        budget = {"limit": {"amount_minor": 10**9, "currency": "USD"}, "name": self.text("budget")}
        for _ in range(2):
            _made(shop.post(f"/v1/programs/{program['id']}/budgets", budget))
        agency = shop.an_affiliate(self.text("agency"), kind="agency", enrolled=False)
        for number in (1, 2):
            affiliate = shop.an_affiliate(
                self.text(f"name-{number}"),
                program=program,
                email=f"canary-{word}-mail-{number}@example.com",
                external_id=self.text("external" if number == 1 else "external-2"),
                profile={"about": self.text(f"about-{number}")},
            )
            self.affiliates.append(affiliate["id"])
            link = shop.a_link(
                affiliate,
                program=program,
                url=f"https://canary-{word}-domain.example/p/{number}",
                sub1=self.text(f"sub-{number}"),
                external_id=self.text(f"link-{number}"),
            )
            coupon = f"canary-{word}-code-{number}"
            shop.a_coupon(affiliate, coupon, program=program, external_id=self.text(f"coupon-{number}"))
            shop.click(link)
            offered = {"affiliate_id": affiliate["id"], "share": "30", "fee": "5"}
            for agreed in (True, False):
                offer = _made(shop.post(f"/v1/affiliates/{agency['id']}/roster", offered))
                if agreed:
                    _made(shop.post(f"/v1/me/roster-offers/{offer['id']}/accept", by=affiliate["id"]))
            bound = {"affiliate_id": affiliate["id"], "program_id": program["id"]}
            _made(shop.post("/v1/customer-bindings", {**bound, "customer": {"id": self.text(f"customer-{number}")}}))
            _made(shop.post("/v1/product-bindings", {**bound, "sku": self.text(f"sku-{number}")}))
            _made(shop.post(f"/v1/affiliates/{affiliate['id']}/grades", {"tier": self.text(f"tier-{number}")}))
        listed = {"customers": [{"id": self.text("staff")}], "listed": True}
        _made(shop.post(f"/v1/customer-lists/{self.text('list')}/entries", listed))
        for number in (1, 2):
            for days in (30, 1):
                order = (
                    f"canary-{word}-order-{number}-{days}"
                    if days == 1
                    else self.text("external" if number == 1 else "old")
                )
                at = shop.time(days=days)
                coupon = f"canary-{word}-code-{number}"
                shop.an_order(
                    order, placed_at=at, coupon_codes=[coupon], customer={"email": f"canary-{word}-buyer@example.com"}
                )
            shop.an_order(
                self.text(f"euros-{number}"),
                placed_at=shop.time(days=30),
                coupon_codes=[f"canary-{word}-code-{number}"],
                currency="EUR",
            )
            give_account(shop, self.affiliates[number - 1], number=number)
        shop.deliver({"type": "order", "id": self.text("parked")})
        shop.deliver(shop.refund({"id": self.text("waiting"), "currency": "USD"}, "1.00"))
        shop.post("/v1/jobs/settle")
        asked = {"rail": "sandbox", "currency": "USD", "external_id": self.text("run")}
        _made(shop.post("/v1/payout-runs", asked, by="finance-maker"))
        self._pay_by_file()
        for kind in ("run", "day"):
            limit = {"kind": kind, "limit": {"amount_minor": 10**12, "currency": "USD"}}
            _made(shop.post("/v1/payout-limits", limit))
        self._ask_for_corrections()
        for role in ("read", "finance-checker", *self.affiliates):
            shop.key_of(role)
        # Books begin on the day their merchant is made; what was booked on it is told below, once it is over.
        booked = shop.now().date().isoformat()
        shop.advance(days=3)
        for days in (2, 1):
            until = (shop.now() - timedelta(days=days)).date().isoformat()
            _made(shop.post("/v1/book-closes", {"until": until}, by="finance-checker"))
        laid = {"begins_on": "2026-11-01", "until": "2026-11-30", "bank": {"format": "csv"}}
        reconciliation = _made(shop.post("/v1/reconciliations", laid, by="finance-maker"))
        bank = "date,reference,amount,currency\n" + "".join(
            f"2026-11-20,{self.text(f'payment-{number}')},1.00,USD\n" for number in (1, 2)
        )
        path = f"/v1/reconciliations/{reconciliation['id']}/files/bank"
        _made(client.post(path, content=bank, headers=shop.key_of("finance-maker")))
        of = ids.decode("mer", shop.id), ids.decode("rec", reconciliation["id"])
        read_files(shop.engine, Security(bytes(32)), *of, lambda: True)
        reconcile.advance(shop.engine, *of, lambda: True)
        draft = {"terms": {"rules": [{"kind": "percent", "rate": "5", "name": self.text("draft")}]}}
        simulation = _made(shop.post(f"/v1/programs/{program['id']}/simulate", draft))
        advance(shop.engine, ids.decode("mer", shop.id), ids.decode("sim", simulation["id"]), lambda _done, _of: True)
        made = _made(shop.post("/v1/report-jobs", {"name": "commissions", "format": "csv"}))
        make(shop.engine, ids.decode("mer", shop.id), ids.decode("job", made["id"]), lambda _session: True)
        for affiliate_id in self.affiliates:
            accepted = {"version": 1, "language": "en"}
            _made(shop.post(f"/v1/me/programs/{program['id']}/accept", accepted, by=affiliate_id))
        for number in (2, 1):
            told = {"order_number": self.text(f"claimed-{number}"), "note": self.text(f"claim-{number}")}
            _made(shop.post("/v1/me/claims", {"kind": "missing_order", **told}, by=self.affiliates[number - 1]))
        for affiliate_id in self.affiliates:
            # Its key is the first that anybody comes upon, and so the first to be revoked: not the one we go on with.
            told = {"agreed_on": booked, "reference": self.text("agreement")}
            _made(shop.post(f"/v1/affiliates/{affiliate_id}/self-billing-agreements", told, by="admin of agreements"))
        _made(shop.put("/v1/statement-settings", {"legal_name": self.text("legal"), "self_billing": True}))
        _made(shop.post("/v1/statements", {"begins_on": booked, "ends_on": booked}, by="finance-maker"))
        return self

    def _ask_for_corrections(self) -> None:
        """One that can be booked and one that can be withdrawn; nobody looks here whether there is a debt."""
        with unit_of_work(self.shop.engine) as session:
            for number in (1, 2):
                session.add(
                    CorrectionRow(
                        merchant_id=ids.decode("mer", self.shop.id),
                        id=ids.new_id(),
                        kind=CorrectionKind.WRITE_OFF,
                        state=CorrectionState.ASKED,
                        payee_id=ids.decode("aff", self.affiliates[0]),
                        currency="USD",
                        amount_minor=number,
                        reason=self.text("reason"),
                        asked_by=ids.new_id(),
                        created_at=utc_now(),
                    )
                )

    def _pay_by_file(self) -> None:
        """Have a file of payouts built, which waits."""
        shop = self.shop
        payer = {"account": "DE89370400440532013000", "holder": self.text("payer")}
        _made(shop.put("/v1/payer-accounts/sepa_file", payer, by="finance-maker"))
        run = _made(shop.post("/v1/payout-runs", {"rail": "sepa_file", "currency": "EUR"}, by="finance-maker"))
        shop.let_out(run)
        service: Service = shop.client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
        builder = files.Builder(service.engine, service.security, FILE_RAILS["sepa_file"], utc_now)
        merchant_id, run_id = ids.decode("mer", shop.id), ids.decode("run", run["id"])
        files.advance(builder, merchant_id=merchant_id, run_id=run_id, until=utc_now() + timedelta(seconds=30))

    def text(self, name: str) -> str:
        return f"canary-{self.word}-{name}"

    @property
    def canaries(self) -> re.Pattern[str]:
        return re.compile(rf"canary-{self.word}-[a-z0-9-]+")

    def seen_by(self, role: str, operations: Sequence[Operation]) -> dict[str, list[str]]:
        """Return the ids that a key of this tenant comes upon: in lists, and in what those lead to."""
        seen: dict[str, list[str]] = defaultdict(list)
        asked: set[str] = set()
        readings = [one for one in operations if one.method == "get" and one.owner not in {"public", "browser"}]
        is_new = True
        while is_new:
            is_new = False
            for operation in readings:
                for url in self._urls(operation, seen):
                    if url in asked:
                        continue
                    asked.add(url)
                    is_new = True
                    answer = self.shop.get(url, by=role)
                    if answer.status_code == 200 and not url.endswith((".png", ".svg")):
                        for found in ANY_ID.findall(answer.text):
                            if found not in seen[found[:3]]:
                                seen[found[:3]].append(found)
        return dict(seen)

    def _urls(self, operation: Operation, seen: Ids) -> list[str]:
        """The operation for the ids known so far, two of each kind."""
        slots = [slot for slot in operation.slots() if slot.place == "path"]
        if not slots:
            return [operation.made(lambda _: None).url]
        if any(not seen.get(slot.kind) and slot.kind != "external" for slot in slots):
            return []
        urls = []
        for number in range(2):

            def fill(slot: Slot, number: int = number) -> str | None:
                if slot.kind == "external":
                    return self.text("external")
                known = seen.get(slot.kind, [])
                return known[number % len(known)] if slot.place == "path" else None

            urls.append(operation.made(fill).url)
        return list(dict.fromkeys(urls))


def rows_of(engine: Engine, merchant_id: str, *, about: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return every row of a merchant by table, as text. about: only rows in which one of these ids stands."""
    with read_session(engine) as session:
        tables = fetch(
            session,
            """
            SELECT table_name FROM information_schema.columns
            WHERE table_schema = 'public' AND column_name = 'merchant_id' ORDER BY 1
            """,
        )
        rows = {}
        for (table,) in tables:
            found = fetch(
                session,
                f"""
                SELECT CAST(to_jsonb(one) - CAST(:notes AS text[]) AS text) AS row FROM "{table}" AS one
                WHERE merchant_id = :merchant_id
                """,
                {"merchant_id": ids.decode("mer", merchant_id), "notes": list(_NOTES)},
            )
            rows[table] = sorted(row for (row,) in found if not about or any(each in row for each in about))
        return rows


def raw(public_ids: Sequence[str]) -> list[str]:
    """The ids as they stand in the database."""
    found: list[UUID] = [ids.decode(each[:3], each) for each in public_ids]
    return [str(each) for each in found]


def _made(answer: Any) -> Json:
    assert answer.is_success, answer.text
    made: Json = answer.json()
    return made
