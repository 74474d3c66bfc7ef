"""Reads what banks answer in XML: status reports (pain.002) and statements (camt.052, .053, .054), of any version.

Anybody may have made the file, so nothing in it is trusted: no document types, no entities, no depth without end.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from xml.parsers import expat

from service.domain.errors import ServiceError
from service.domain.money import minor_of
from service.domain.payout_file import Said, is_of_a_copy
from service.payouts.providers.file_model import (
    REASON_CHARS_MAX,
    RESULT_LINES_MAX,
    ResultFile,
    Told,
    UnreadableResult,
)

DEPTH_MAX = 40
NODES_MAX = 2_000_000
TEXT_MAX = 10_000
"""Characters of one element's text."""

# ISO 20022, external code set "payment transaction status": what a status proves of the money.
_STATUSES = {
    "RJCT": Said.REJECTED,
    "CANC": Said.REJECTED,
    "ACSC": Said.BOOKED,
    "ACCC": Said.BOOKED,
    "ACSP": Said.ACCEPTED,
    "ACCP": Said.ACCEPTED,
    "ACTC": Said.ACCEPTED,
    "ACWC": Said.ACCEPTED,
    "ACFC": Said.ACCEPTED,
    "ACWP": Said.ACCEPTED,
    "RCVD": Said.ACCEPTED,
    "PDNG": Said.ACCEPTED,
}
_PARTLY = "PART"
"""Some of the group were rejected: what became of each stands at the transaction."""


@dataclass(slots=True)
class Node:
    """An element, by its name without the namespace: banks use many versions of one message."""

    name: str
    text: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    children: list["Node"] = field(default_factory=list)

    def all(self, *path: str) -> Iterator["Node"]:
        """Yields what stands at a path below it."""
        first, *rest = path
        for child in self.children:
            if child.name == first:
                if rest:
                    yield from child.all(*rest)
                else:
                    yield child

    def one(self, *path: str) -> "Node | None":
        """Return the first at a path, or None."""
        return next(self.all(*path), None)

    def said(self, *path: str) -> str:
        """Return the text at a path, empty where there is none."""
        found = self.one(*path)
        return "" if found is None else found.text.strip()


def parse(content: bytes) -> Node:
    """Return the root of an XML file. Raises UnreadableResult, also for whatever only an attacker would send."""
    parser = expat.ParserCreate(namespace_separator=" ")
    root = Node("")
    open_nodes, count = [root], 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if len(open_nodes) > DEPTH_MAX or count > NODES_MAX:
            raise UnreadableResult(f"It is nested deeper than {DEPTH_MAX}, or has more than {NODES_MAX} elements.")
        node = Node(name.rpartition(" ")[2], attributes=attributes)
        open_nodes[-1].children.append(node)
        open_nodes.append(node)

    def end(_name: str) -> None:
        open_nodes.pop()

    def text(part: str) -> None:
        node = open_nodes[-1]
        if len(node.text) + len(part) > TEXT_MAX:
            raise UnreadableResult(f"The text of an element is longer than {TEXT_MAX} characters.")
        node.text += part

    def refuse(*_of: object) -> int:
        raise UnreadableResult("It declares a document type or an entity, which no bank's answer has.")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    try:
        parser.Parse(content, True)  # noqa: FBT003 - the library's own: these are all bytes
    except (expat.ExpatError, ValueError, LookupError) as error:
        # The last two where it declares an encoding that the parser does not know.
        raise UnreadableResult(f"It is no XML: {str(error)[:100]}.") from None
    return root.children[0]


def read(content: bytes) -> ResultFile:
    """Return what a status report or statement says. Raises UnreadableResult."""
    document = parse(content)
    for message, reader in _READERS.items():
        found = document.one(message)
        if document.name == "Document" and found is not None:
            made = reader(found)
            if len(made.told) > RESULT_LINES_MAX:
                raise UnreadableResult(f"It has more than {RESULT_LINES_MAX} lines; send it in parts.")
            return made
    raise UnreadableResult(f"It is neither of {', '.join(_READERS)}.")


def _status_report(report: Node) -> ResultFile:
    """A pain.002: a status at the transaction counts for it, else one at the payment, else one at the group."""
    group = report.one("OrgnlGrpInfAndSts") or Node("")
    payments = list(report.all("OrgnlPmtInfAndSts"))
    of_all = _reasons(group, *payments, *report.all("OrgnlPmtInfAndSts", "TxInfAndSts"))
    told: list[Told] = []
    whole = _whole(group, "GrpSts", of_all)
    for payment in payments:
        # One payment is all there is in a file of ours.
        whole = _whole(payment, "PmtInfSts", of_all) or whole
    is_rejected = any(each.said is Said.REJECTED for each in whole)
    for payment in payments:
        for one in payment.all("TxInfAndSts"):
            status = one.said("TxSts")
            said = _STATUSES.get(status)
            if said is not None:
                amount_minor, currency = _money(one.one("OrgnlTxRef", "Amt", "InstdAmt"))
                told.append(
                    Told(
                        one.said("OrgnlEndToEndId"),
                        said,
                        amount_minor,
                        currency,
                        account=one.said("OrgnlTxRef", "CdtrAcct", "Id", "IBAN"),
                        reason=(_reason(one) or status)[:REASON_CHARS_MAX],
                        is_of_a_copy=is_of_a_copy(said, of_all if is_rejected else _reasons(group, payment, one)),
                    )
                )
    # The whole first, so that a transaction of its own mind comes after.
    return ResultFile("pain.002", (*whole, *told), group.said("OrgnlMsgId"))


def _whole(node: Node, name: str, reasons: Sequence[str]) -> list[Told]:
    """A status that counts for every line. reasons: of the whole report, for each level may leave the reason to another."""
    status = node.said(name)
    said = _STATUSES.get(status)
    if said is None or status == _PARTLY:
        return []
    reason = (_reason(node) or status)[:REASON_CHARS_MAX]
    return [Told(None, said, reason=reason, is_of_a_copy=is_of_a_copy(said, reasons))]


def _reason(node: Node) -> str:
    return node.said("StsRsnInf", "Rsn", "Cd") or node.said("StsRsnInf", "Rsn", "Prtry")


def _reasons(*nodes: Node, name: str = "StsRsnInf") -> list[str]:
    """All that is said of why, in codes and in words."""
    told = []
    for why in (each for node in nodes for each in node.all(name)):
        # A text of more than 105 characters runs over several elements, and may be cut within a word.
        text = [each.text for each in why.all("AddtlInf")]
        told += [why.said("Rsn", "Cd"), why.said("Rsn", "Prtry"), " ".join(text), "".join(text)]
    return [each for each in told if each]


def _statement(name: str) -> Callable[[Node], ResultFile]:
    def read_statement(message: Node) -> ResultFile:
        told = [
            each
            for part in ("Stmt", "Ntfctn", "Rpt")
            for entry in message.all(part, "Ntry")
            if _is_booked(entry)
            for each in _entry(entry)
        ]
        return ResultFile(name, tuple(told))

    return read_statement


def _is_booked(entry: Node) -> bool:
    """Later versions wrap the code, earlier ones do not."""
    return (entry.said("Sts", "Cd") or entry.said("Sts")) == "BOOK"


def _entry(entry: Node) -> Iterator[Told]:
    """What a booked entry says of transfers of ours: money out is booked, money in with one of our ids came back."""
    details = list(entry.all("NtryDtls", "TxDtls"))
    booked_on = _day(entry.said("BookgDt", "Dt") or entry.said("BookgDt", "DtTm"))
    for one in details:
        came_in = (one.said("CdtDbtInd") or entry.said("CdtDbtInd")) == "CRDT"
        # Of what went out, what was asked for counts; of what came back, what arrived.
        asked, moved = one.one("AmtDtls", "InstdAmt", "Amt"), one.one("AmtDtls", "TxAmt", "Amt") or one.one("Amt")
        own = (moved or asked) if came_in else (asked or moved)
        # An entry's amount is that of a transaction only where it stands for a single one.
        amount = own if own is not None or len(details) > 1 else entry.one("Amt")
        amount_minor, currency = _money(amount)
        said = Said.RETURNED if came_in else Said.BOOKED
        yield Told(
            one.said("Refs", "EndToEndId"),
            said,
            amount_minor,
            currency,
            account="" if came_in else one.said("RltdPties", "CdtrAcct", "Id", "IBAN"),
            reason=(one.said("RtrInf", "Rsn", "Cd") or one.said("RtrInf", "Rsn", "Prtry"))[:REASON_CHARS_MAX],
            booked_on=booked_on,
            is_of_a_copy=is_of_a_copy(said, _reasons(one, name="RtrInf")),
        )


def _money(node: Node | None) -> tuple[int | None, str]:
    if node is None:
        return None, ""
    currency = node.attributes.get("Ccy", "")
    try:
        return minor_of(Decimal(node.text.strip()), currency), currency
    except (InvalidOperation, ServiceError):
        raise UnreadableResult(f"An amount in {currency[:3] or 'no currency'} cannot be read.") from None


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text[:10]) if text else None
    except ValueError:
        raise UnreadableResult("A booking date cannot be read.") from None


_READERS = {
    "CstmrPmtStsRpt": _status_report,
    "BkToCstmrAcctRpt": _statement("camt.052"),
    "BkToCstmrStmt": _statement("camt.053"),
    "BkToCstmrDbtCdtNtfctn": _statement("camt.054"),
}
