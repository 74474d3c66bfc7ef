"""Registers for filing: what there are, and each as CSV for a person to check and file."""

import contextlib
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated, Self

from fastapi import APIRouter, Depends, Path
from fastapi.responses import StreamingResponse
from pydantic import Field
from pydantic.types import Strict

from service.api import trail
from service.api.deps import FinanceMaker, Reader, Services, WriteSession
from service.api.language import AskedLanguage
from service.api.payouts import merchant_time_of
from service.api.reports import ReportColumnView
from service.api.views import Body, Text, View
from service.domain.wording.languages import Language
from service.domain.wording.withholding import TO_BE_CONFIRMED
from service.reports.registers import REGISTERS, Every, Register, find
from service.reports.render_csv import BLOCK_BYTES
from service.reports.render_register import render

router = APIRouter(tags=["tax"])

_IN_MEMORY_BYTES = 4 * 1024 * 1024
"""A longer register waits in a file without a name, which is gone when the answer has left."""


class TaxRegisterView(View):
    name: str
    title: str
    who: str
    """Who stands in it, and who does not."""
    every: Every
    """Whether it is of a year or of a quarter."""
    notice: str
    """What each row ends with: no register is fit to be filed before a professional has confirmed it."""
    columns: list[ReportColumnView]

    @classmethod
    def of(cls, register: Register, language: Language) -> Self:
        return cls(
            name=register.name,
            title=register.title,
            who=register.who,
            every=register.every,
            notice=TO_BE_CONFIRMED.to(language),
            columns=[ReportColumnView.of(column) for column in register.columns],
        )


class TaxRegisterList(View):
    data: list[TaxRegisterView]


class TaxRegisterCreate(Body):
    year: Annotated[int, Strict(), Field(ge=2000, le=2100, examples=[2026])]
    """By your calendar."""
    quarter: Annotated[int, Strict(), Field(ge=1, le=4)] | None = None
    """For registers of a quarter, and only for those."""
    language: Language | None = None
    """Of the notice; left out, as everywhere."""


def _spool() -> Iterator[IO[bytes]]:
    """Where a register waits; closed when the answer has left, also when its reader has gone in the middle."""
    with SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as spool:
        yield spool


@router.get("/v1/tax-registers")
def list_tax_registers(caller: Reader, language: AskedLanguage) -> TaxRegisterList:
    """List the registers for filing with who stands in each, their columns and their notice."""
    del caller
    return TaxRegisterList(data=[TaxRegisterView.of(each, language) for each in REGISTERS.values()])


@router.post(
    "/v1/tax-registers/{name}",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def make_tax_register(
    *,
    name: Annotated[Text, Path(examples=["us_1099_nec"])],
    asked: TaxRegisterCreate,
    caller: FinanceMaker,
    session: WriteSession,
    service: Services,
    spool: Annotated[IO[bytes], Depends(_spool)],
    language: AskedLanguage,
) -> StreamingResponse:
    """Make a register of a year or a quarter as CSV, for a tax professional to confirm before it is filed.

    It names people with their tax codes and addresses: that it was made stands in the audit trail, and the answer is not
    kept for an Idempotency-Key, so a repeated request makes it anew. It shows what is known now; one of a period that has not
    ended says `provisional`.
    """
    register, today = find(name), merchant_time_of(caller).day
    period = register.period(asked.year, asked.quarter, today=today)
    trail.note(
        session,
        merchant_id=caller.merchant_id,
        kind="tax_register",
        subject=register.name,
        after={"period": str(period)},
    )
    # All of it before the answer begins: nobody is shown what the trail could not be told of.
    blocks = render(
        session,
        register,
        period,
        merchant_id=caller.merchant_id,
        today=today,
        language=asked.language or language,
        security=service.security,
    )
    with contextlib.closing(blocks):
        for block in blocks:
            spool.write(block)
    spool.seek(0)
    return StreamingResponse(
        iter(lambda: spool.read(BLOCK_BYTES), b""),
        media_type="text/csv; charset=utf-8; header=present",
        headers={
            "Content-Disposition": f'attachment; filename="{register.name}-{period}.csv"',
            "Cache-Control": "no-store",
        },
    )
