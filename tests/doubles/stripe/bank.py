"""All that the double has, and what it does of API v1: connected accounts, transfers, the platform's balance, events."""

import threading
from dataclasses import dataclass, field
from typing import Any

from stripe import params
from tests.doubles.stripe.parts import LIST_LIMIT_MAX, Json, Planned, Refusal, checked, listed, new_id, now, positive
from tests.doubles.stripe.payments import Payments

_DUE = ["business_profile.url", "external_account", "individual.first_name", "tos_acceptance.date"]
"""What a new account is asked for, until it is onboarded."""


@dataclass
class Stored:
    """A key: what was asked under it, and what was answered; None while that is not known yet."""

    request: tuple[str, str]
    answer: tuple[int, Json] | None = None


@dataclass
class Bank:
    """One lock around each request's work."""

    balance_minor: int = 10**12
    """What the platform has in each currency, in Stripe's minor units."""
    accounts: dict[str, Json] = field(default_factory=dict)
    transfers: dict[str, Json] = field(default_factory=dict)
    spent: dict[str, int] = field(default_factory=dict)
    transactions: list[Json] = field(default_factory=list)
    """Of the platform's balance, oldest first."""
    events: list[Json] = field(default_factory=list)
    """Of API v1, oldest first, as they are delivered: those of connected accounts name them."""
    payments: Payments = field(default_factory=Payments)
    keys: dict[str, Stored] = field(default_factory=dict)
    faults: list[Planned] = field(default_factory=list)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(method, path, idempotency key) as they came."""
    bodies: list[tuple[str, Json]] = field(default_factory=list)
    """(path, parameters) of every POST as they came."""
    page_max: int = LIST_LIMIT_MAX
    """Most transfers on one page, whatever was asked for."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def fault_for(self, method: str, path: str, form: Json, account: str | None = None) -> Planned | None:
        """Take the fault that happens to a request now. account: the connected account it is made for."""
        to = form.get("to")
        destination = account or (to.get("recipient") if isinstance(to, dict) else form.get("destination"))
        for fault in self.faults:
            there = method == "POST" if fault.path is None else fault.path == path
            if fault.times > 0 and there and fault.destination in {None, destination}:
                fault.times -= 1
                return fault
        return None

    def act(self, method: str, path: list[str], form: Json, account: str | None = None) -> Json:
        """Do a request of API v1. account: the connected account it is made for. Raises Refusal."""
        match method, path:
            case "POST", ["accounts"]:
                return self._open_account(checked(form, params.AccountCreateParams))
            case "GET", ["accounts"]:
                asked = checked(form, params.AccountListParams)
                return listed(list(self.accounts.values())[::-1], asked, "/v1/accounts")
            case "GET", ["accounts", account_id]:
                return self._known(self.accounts, account_id, "account")
            case "POST", ["account_links"]:
                return self._link(checked(form, params.AccountLinkCreateParams))
            case "POST", ["transfers"]:
                return self._transfer(checked(form, params.TransferCreateParams))
            case "GET", ["transfers"]:
                return self._list(checked(form, params.TransferListParams))
            case "GET", ["transfers", transfer_id]:
                return self._known(self.transfers, transfer_id, "transfer")
            case "POST", ["transfers", transfer_id, "reversals"]:
                return self._reverse(transfer_id, checked(form, params.TransferReversalCreateParams))
            case "GET", ["balance"]:
                return self._balance()
            case "GET", ["balance_transactions"]:
                return self._moved(checked(form, params.BalanceTransactionListParams))
            case "GET", ["events"]:
                return self._told(checked(form, params.EventListParams), account)
            case _:
                raise Refusal(404, f"Unrecognized request URL ({method}: /v1/{'/'.join(path)}).")

    def tell(self, kind: str, about: Json, account: str | None = None) -> Json:
        """Make an event about a thing as it is now."""
        event: Json = {
            "id": new_id("evt"),
            "object": "event",
            "api_version": "2026-10-28.endive",
            "created": now(),
            "data": {"object": _copy(about)},
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": kind,
        }
        if account is not None:
            event["account"] = account
        self.events.append(event)
        return event

    def change_account(self, account_id: str, **changes: Any) -> Json:
        """Let an account be otherwise, as after onboarding or a check by Stripe, and tell so."""
        account = self._known(self.accounts, account_id, "account")
        account.update(changes)
        self.tell("account.updated", account, account_id)
        if "capabilities" in changes:
            capability = {
                "id": "transfers",
                "object": "capability",
                "account": account_id,
                "requested": True,
                "status": account["capabilities"]["transfers"],
            }
            self.tell("capability.updated", capability, account_id)
        return account

    def onboard(self, account_id: str) -> Json:
        """Let the payee have told all that Stripe wants."""
        return self.change_account(
            account_id,
            capabilities={"transfers": "active"},
            payouts_enabled=True,
            details_submitted=True,
            requirements=_requirements([]),
        )

    def restrict(self, account_id: str, *, past_due: str = "individual.verification.document") -> Json:
        """Let Stripe want something more, and take no transfers meanwhile."""
        return self.change_account(
            account_id,
            capabilities={"transfers": "inactive"},
            payouts_enabled=False,
            requirements=_requirements([past_due], disabled_reason="requirements.past_due", past_due=[past_due]),
        )

    def pay_bank(self, account_id: str, amount: int, *, status: str = "paid", currency: str = "usd") -> Json:
        """Let Stripe pay a connected account's money to its own bank, and tell how that went."""
        payout = {
            "id": new_id("po"),
            "object": "payout",
            "amount": amount,
            "created": now(),
            "currency": currency,
            "failure_code": None,
            "metadata": {},
            "status": "in_transit",
        }
        return self.bank_says(account_id, payout, status)

    def bank_says(self, account_id: str, payout: Json, status: str) -> Json:
        """Let a payout end, or end otherwise: what was paid may fail days later."""
        code = "account_closed" if status == "failed" else None
        payout = {**payout, "status": status, "failure_code": code}
        self.tell(f"payout.{status}", payout, account_id)
        return payout

    def _known(self, things: dict[str, Json], name: str, what: str) -> Json:
        if name not in things:
            raise Refusal(404, f"No such {what}: '{name}'", code="resource_missing", param="id")
        return things[name]

    def _open_account(self, form: Json) -> Json:
        account_id = new_id("acct")
        # The older types stand for an account that somebody has onboarded already.
        ready = "type" in form
        self.accounts[account_id] = {
            "id": account_id,
            "object": "account",
            "type": form.get("type", "none"),
            "country": form.get("country", "US"),
            "controller": form.get("controller"),
            "email": form.get("email"),
            "capabilities": {"transfers": "active" if ready else "inactive"},
            "charges_enabled": False,
            "payouts_enabled": ready,
            "details_submitted": ready,
            "metadata": form.get("metadata", {}),
            "requirements": _requirements([] if ready else _DUE),
            "created": now(),
        }
        return self.accounts[account_id]

    def _link(self, form: Json) -> Json:
        self._known(self.accounts, form["account"], "account")
        url = f"https://connect.stripe.test/setup/{new_id('s')}"
        return {"object": "account_link", "created": now(), "expires_at": now() + 300, "url": url}

    def _transfer(self, form: Json) -> Json:
        amount, currency, destination = positive(form, "amount"), form["currency"], form["destination"]
        if destination not in self.accounts:
            raise Refusal(400, f"No such destination: '{destination}'", code="resource_missing", param="destination")
        if self.accounts[destination]["capabilities"]["transfers"] != "active":
            message = (
                "Your destination account needs to have at least one of the following capabilities enabled: transfers"
            )
            raise Refusal(400, message, code="insufficient_capabilities_for_transfer")
        if self.spent.get(currency, 0) + amount > self.balance_minor:
            message = "You have insufficient available funds in your Stripe account."
            raise Refusal(400, message, code="balance_insufficient")
        transfer_id = f"tr_{len(self.transfers) + 1:08d}{new_id('')[1:]}"
        self.transfers[transfer_id] = {
            "id": transfer_id,
            "object": "transfer",
            "amount": amount,
            "amount_reversed": 0,
            "balance_transaction": None,
            "created": now(),
            "currency": currency,
            "description": form.get("description"),
            "destination": destination,
            "destination_payment": new_id("py"),
            "livemode": False,
            "metadata": form.get("metadata", {}),
            "reversals": {
                "object": "list",
                "data": [],
                "has_more": False,
                "total_count": 0,
                "url": f"/v1/transfers/{transfer_id}/reversals",
            },
            "reversed": False,
            "source_transaction": None,
            "source_type": "card",
            "transfer_group": form.get("transfer_group"),
        }
        made = self.transfers[transfer_id]
        made["balance_transaction"] = self._move("transfer", -amount, currency, transfer_id)
        self.tell("transfer.created", made)
        return made

    def _move(self, kind: str, amount: int, currency: str, source: str) -> str:
        moved = {
            "id": new_id("txn"),
            "object": "balance_transaction",
            "amount": amount,
            "created": now(),
            "currency": currency,
            "fee": 0,
            "net": amount,
            "source": source,
            "status": "available",
            "type": kind,
        }
        self.transactions.append(moved)
        self.spent[currency] = self.spent.get(currency, 0) - amount
        return str(moved["id"])

    def _list(self, form: Json) -> Json:
        found = [
            transfer
            for transfer in reversed(self.transfers.values())
            if form.get("transfer_group", transfer["transfer_group"]) == transfer["transfer_group"]
            and form.get("destination", transfer["destination"]) == transfer["destination"]
        ]
        page = listed(found, form, "/v1/transfers")
        more = page["has_more"] or len(page["data"]) > self.page_max
        return {**page, "has_more": more, "data": page["data"][: self.page_max]}

    def _reverse(self, transfer_id: str, form: Json) -> Json:
        transfer = self._known(self.transfers, transfer_id, "transfer")
        left = transfer["amount"] - transfer["amount_reversed"]
        amount = positive(form, "amount") if "amount" in form else left
        if amount > left:
            raise Refusal(400, f"Reversal amount is greater than unreversed amount on transfer ({left})")
        transfer["amount_reversed"] += amount
        transfer["reversed"] = transfer["amount_reversed"] == transfer["amount"]
        made = {
            "id": new_id("trr"),
            "object": "transfer_reversal",
            "amount": amount,
            "currency": transfer["currency"],
            "transfer": transfer_id,
            "metadata": form.get("metadata", {}),
            "created": now(),
        }
        transfer["reversals"]["data"].insert(0, made)
        transfer["reversals"]["total_count"] += 1
        self._move("transfer_refund", amount, transfer["currency"], made["id"])
        self.tell("transfer.reversed", transfer)
        return made

    def _balance(self) -> Json:
        currencies = sorted({"usd", *self.spent})
        available = [{"amount": self.balance_minor - self.spent.get(each, 0), "currency": each} for each in currencies]
        return {"object": "balance", "livemode": False, "available": available, "pending": []}

    def _moved(self, form: Json) -> Json:
        reversals = {made["id"]: made for each in self.transfers.values() for made in each["reversals"]["data"]}
        sources = {**self.transfers, **reversals}
        expanded = "data.source" in form.get("expand", [])
        found = [
            {**each, "source": sources[each["source"]] if expanded else each["source"]}
            for each in reversed(self.transactions)
            if form.get("type", each["type"]) == each["type"]
        ]
        return listed(found, form, "/v1/balance_transactions")

    def _told(self, form: Json, account: str | None) -> Json:
        if account is not None and account not in self.accounts:
            message = f"The provided key does not have access to account '{account}' (or that account does not exist)."
            raise Refusal(403, message, code="account_invalid")
        found = [
            # Listed for an account, events do not name it.
            {name: value for name, value in each.items() if name != "account"}
            for each in reversed(self.events)
            if each.get("account") == account and each["type"] in form.get("types", [each["type"]])
        ]
        return listed(found, form, "/v1/events")


def _requirements(due: list[str], **more: Any) -> Json:
    return {
        "alternatives": [],
        "current_deadline": None,
        "currently_due": due,
        "disabled_reason": "requirements.past_due" if due else None,
        "errors": [],
        "eventually_due": due,
        "past_due": [],
        "pending_verification": [],
        **more,
    }


def _copy(about: Json) -> Json:
    return {name: _copy(value) if isinstance(value, dict) else value for name, value in about.items()}
