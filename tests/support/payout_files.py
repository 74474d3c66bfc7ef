"""A finance desk that pays by files: payees with accounts of each kind, files built and handed over, banks that answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, select

from service.api.deps import Service
from service.domain.destination import AccountType, Destination
from service.domain.payout_file import FileRailName
from service.infra import ids
from service.infra.db import read_session, unit_of_work
from service.ledger.audit import check
from service.ledger.findings import FindingCode
from service.payouts import files
from service.payouts.account import fingerprint as fingerprint_of
from service.payouts.execute import Progress
from service.payouts.file_settings import PAYER
from service.payouts.hand_over import HandedOver, hand_over
from service.payouts.providers import DESTINATION, FILE_RAILS
from service.payouts.results import Imported, import_results
from service.tables.parties import PayoutMethodRow
from service.tables.payout_files import PayerAccountRow, PayoutFileLineRow, PayoutFileRow, PayoutTemplateRow
from service.tables.payouts import PayoutRunRow
from tests.support.payouts import CHECKER, MAKER, Desk
from tests.support.shop import Shop

PAYERS = {
    FileRailName.SEPA_FILE: Destination(
        type=AccountType.IBAN, account="DE89370400440532013000", holder="Teehaus GmbH", town="Köln", country="DE"
    ),
    FileRailName.ALIPAY_FILE: Destination(type=AccountType.ALIPAY, account="pay@tea.example", holder="茶叶有限公司"),
}


def an_iban(number: int) -> str:
    """A German IBAN of its own, with right check digits."""
    bban = f"37040044{number:010d}"
    check = 98 - int(f"{bban}131400") % 97
    return f"DE{check:02d}{bban}"


def an_account(rail: FileRailName, number: int = 1, **parts: str) -> Destination:
    """An account that the rail pays to, another for each number. parts: fields instead."""
    match rail:
        case FileRailName.SEPA_FILE:
            fields = {"account": an_iban(number), "holder": "Zoë Brontë", "town": "Bonn", "country": "DE"}
        case FileRailName.VN_BANK_FILE:
            fields = {"account": f"{number:010d}", "holder": "Nguyễn Thị Đào", "bank_code": "970436"}
        case FileRailName.WECHAT_FILE:
            fields = {"account": f"oUpF8uMuAJO_{number:06d}", "holder": "王芳"}
        case _:
            fields = {"account": f"ann{number}@example.com", "holder": "王芳"}
    account_type = AccountType.WISE if rail is FileRailName.WISE_FILE else min(FILE_RAILS[rail].accounts)
    return Destination(type=account_type, **fields | parts)


@dataclass
class FileDesk:
    """A desk whose runs leave in files."""

    desk: Desk
    name: FileRailName

    @classmethod
    def opened(
        cls, engine: Any, name: FileRailName = FileRailName.SEPA_FILE, *, currency: str = "EUR", time_zone: str = "UTC"
    ) -> "FileDesk":
        desk = Desk.opened(engine, currency=currency, time_zone=time_zone)
        desk.rail = FILE_RAILS[name]  # type: ignore[assignment] # a rail of another kind: all that a desk asks of one before sending
        self = cls(desk, name)
        if name in PAYERS:
            self.pays_from(PAYERS[name])
        return self

    def pays_from(self, payer: Destination, *, version: int = 1) -> None:
        with unit_of_work(self.desk.engine) as session:
            session.add(
                PayerAccountRow(
                    merchant_id=self.desk.merchant_id,
                    rail=self.name,
                    version=version,
                    account=self.desk.security.encrypt(payer.to_text().encode(), purpose=PAYER),
                    hint=payer.account[-4:],
                    created_by=MAKER,
                    created_at=self.desk.now,
                )
            )

    def writes_by(self, template: Mapping[str, Any], *, version: int = 1) -> None:
        with unit_of_work(self.desk.engine) as session:
            session.add(
                PayoutTemplateRow(
                    merchant_id=self.desk.merchant_id,
                    rail=self.name,
                    version=version,
                    template=dict(template),
                    created_by=MAKER,
                    created_at=self.desk.now,
                )
            )

    def payee(self, payable: int, account: Destination | None = None, *, carried: int = 0, number: int = 1) -> UUID:
        payee_id = self.desk.payee(payable, carried=carried, destination=None)
        self.method(payee_id, account or an_account(self.name, number))
        return payee_id

    def method(self, payee_id: UUID, account: Destination) -> None:
        """Make this the payee's account at the rail."""
        self.desk.method(payee_id, account.to_text())
        fingerprint = fingerprint_of(self.desk.security, self.desk.merchant_id, self.name, account)
        with unit_of_work(self.desk.engine) as session:
            row = self._method(session, payee_id)
            row.fingerprint = fingerprint

    def _method(self, session: Session, payee_id: UUID) -> PayoutMethodRow:
        return session.exec(
            select(PayoutMethodRow).where(
                col(PayoutMethodRow.affiliate_id) == payee_id, col(PayoutMethodRow.replaced_at).is_(None)
            )
        ).one()

    def work(self, run: PayoutRunRow) -> Progress:
        """Let a worker take the run as far as it can go now."""
        builder = files.Builder(self.desk.engine, self.desk.security, FILE_RAILS[self.name], lambda: self.desk.now)
        return files.advance(
            builder, merchant_id=self.desk.merchant_id, run_id=run.id, until=self.desk.now + timedelta(seconds=30)
        )

    def built(self, *payees: UUID) -> tuple[PayoutRunRow, list[PayoutFileRow]]:
        """A run whose files are built and wait."""
        run = self.desk.an_executing_run(*payees)
        self.work(run)
        return run, self.files(run)

    def handed_over(self, *payees: UUID) -> tuple[PayoutRunRow, PayoutFileRow]:
        """A run whose only file somebody has had."""
        run, [file] = self.built(*payees)
        return run, self.hand_over(file).file

    def hand_over(self, file: PayoutFileRow, *, by: UUID = CHECKER) -> HandedOver:
        with unit_of_work(self.desk.engine) as session:
            return hand_over(
                session,
                self.desk.security,
                merchant_id=self.desk.merchant_id,
                file_id=file.id,
                by=by,
                when=self.desk.when,
                now=self.desk.now,
            )

    def void(self, file: PayoutFileRow) -> None:
        self.desk.do(files.void, file_id=file.id, by=MAKER, when=self.desk.when, now=self.desk.now)

    def answer(self, file: PayoutFileRow, content: bytes | str) -> Imported:
        """Let the bank's answer come in."""
        content = content.encode() if isinstance(content, str) else content
        with unit_of_work(self.desk.engine) as session:
            return import_results(
                session,
                self.desk.security,
                merchant_id=self.desk.merchant_id,
                file_id=file.id,
                content=content,
                by=MAKER,
                when=self.desk.when,
                now=self.desk.now,
            )

    def files(self, run: PayoutRunRow) -> list[PayoutFileRow]:
        with read_session(self.desk.engine) as session:
            return list(
                session.exec(
                    select(PayoutFileRow)
                    .where(col(PayoutFileRow.merchant_id) == self.desk.merchant_id, col(PayoutFileRow.run_id) == run.id)
                    .order_by(col(PayoutFileRow.number))
                ).all()
            )

    def lines(self, file: PayoutFileRow) -> list[PayoutFileLineRow]:
        with read_session(self.desk.engine) as session:
            return list(
                session.exec(
                    select(PayoutFileLineRow)
                    .where(col(PayoutFileLineRow.file_id) == file.id)
                    .order_by(col(PayoutFileLineRow.line))
                ).all()
            )

    def reference(self, payee_id: UUID) -> str:
        """The end-to-end id of the payee's newest attempt."""
        rows = self.desk.rows(
            """
            SELECT line.end_to_end_id FROM payout_item AS item
            JOIN payout_attempt AS attempt ON attempt.merchant_id = item.merchant_id AND attempt.item_id = item.id
            JOIN payout_file_line AS line ON line.merchant_id = item.merchant_id AND line.attempt_id = attempt.id
            WHERE item.merchant_id = :merchant_id AND item.payee_id = :payee_id
            ORDER BY item.id DESC, attempt.number DESC LIMIT 1
            """,
            payee_id=payee_id,
        )
        return str(rows[0].end_to_end_id)


def neutral(*rows: Sequence[str]) -> str:
    """A neutral CSV of results. rows: end-to-end id, status, and more columns in order."""
    titles = ("end_to_end_id", "status", "amount", "currency", "reason", "booked_on")
    return "\n".join(",".join(row) for row in (titles, *rows)) + "\n"


_OF_PAYOUTS = (
    FindingCode.ITEM_SPLIT,
    FindingCode.ITEM_LIVE,
    FindingCode.ITEM_GAVE_BACK,
    FindingCode.ITEM_HANDED_OVER,
    FindingCode.ITEM_RUN,
    FindingCode.PAYOUT_BALANCE,
    FindingCode.RUN_HASH,
    FindingCode.ATTEMPT_FACT,
)
"""What the audit says of payouts; balances of a desk were not earned by orders, which it would find too."""


def findings(desk: Desk) -> list[str]:
    """What the audit finds wrong about payouts."""
    with read_session(desk.engine) as session:
        return [str(each) for each in check(session, desk.merchant_id) if each.code in _OF_PAYOUTS]


def give_account(
    shop: Shop, affiliate_id: str, *, rail: FileRailName = FileRailName.SEPA_FILE, number: int = 1, **parts: str
) -> None:
    """Give an affiliate of a running service an account at a rail of files."""
    service: Service = shop.client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    merchant_id = ids.decode("mer", shop.id)
    account = an_account(rail, number, **parts)
    with unit_of_work(service.engine) as session:
        session.add(
            PayoutMethodRow(
                merchant_id=merchant_id,
                id=ids.new_id(),
                affiliate_id=ids.decode("aff", affiliate_id),
                rail=rail,
                destination=service.security.encrypt(account.to_text().encode(), purpose=DESTINATION),
                destination_hint=account.account[-4:],
                fingerprint=fingerprint_of(service.security, merchant_id, rail, account),
                created_at=shop.now(),
            )
        )
