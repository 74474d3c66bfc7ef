"""What codes mean and what terms promise, for people, in the language they ask for."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Path
from sqlmodel import Session, col, select

from service.api.deps import AffiliateKey, AnyOfMerchant, Caller, ReaderOrAffiliate, ReadSession
from service.api.language import AskedLanguage
from service.api.programs import find_program
from service.api.views import WRITTEN_INTEGER, Moment, ProgramId, View
from service.domain.attribution import Reason
from service.domain.commission import CommissionReason, CommissionStatus
from service.domain.dated import DatedInputs, Since
from service.domain.errors import Missing
from service.domain.program import Terms
from service.domain.wording import reasons, terms
from service.domain.wording.figures import Names
from service.domain.wording.languages import Language, Words
from service.domain.wording.statuses import STATUSES, Programme
from service.infra.ids import encode
from service.tables.parties import AffiliateKind, AffiliateRow
from service.tables.programs import EnrollmentRow, ProgramVersionRow

router = APIRouter(tags=["words"])


class WordsView(View):
    """The same in every language."""

    en: str
    vi: str
    zh: str

    @classmethod
    def of(cls, words: Words) -> Self:
        return cls(en=words.en, vi=words.vi, zh=words.zh)


class StatusWordsView(View):
    code: CommissionStatus
    label: WordsView
    """A word or two, for lists."""
    meaning: WordsView
    """One sentence."""
    called: dict[Programme, list[str]]
    """What well-known programmes call the nearest thing; empty where one has no word for it. No claim about anybody's
    programme."""


class StatusWordsList(View):
    data: list[StatusWordsView]
    """In the order in which a commission goes through them."""


@router.get("/v1/commission-statuses")
def list_commission_statuses(caller: AnyOfMerchant) -> StatusWordsList:
    """List every status a commission may have, in words, with what other platforms call it."""
    del caller
    return StatusWordsList(
        data=[
            StatusWordsView(
                code=code,
                label=WordsView.of(status.label),
                meaning=WordsView.of(status.meaning),
                called={programme: list(words) for programme, words in status.called.items()},
            )
            for code, status in STATUSES.items()
        ]
    )


class AttributionReasonWords(View):
    code: Reason
    words: WordsView


class CommissionReasonWords(View):
    code: CommissionReason
    words: WordsView


class ReasonWordsView(View):
    """Every `reason_code` that the service itself gives, in words."""

    attribution: list[AttributionReasonWords]
    """Why a touch won or lost, or why nobody was found."""
    commission: list[CommissionReasonWords]
    """Why a commission stands where it stands: what it waits for, or why it came to nothing."""


@router.get("/v1/reasons")
def get_reasons(caller: AnyOfMerchant) -> ReasonWordsView:
    """Explain every reason code of attributions and commissions in one sentence."""
    del caller
    return ReasonWordsView(
        attribution=[
            AttributionReasonWords(code=code, words=WordsView.of(words)) for code, words in reasons.ATTRIBUTION.items()
        ],
        commission=[
            CommissionReasonWords(code=code, words=WordsView.of(words)) for code, words in reasons.COMMISSION.items()
        ],
    )


class SectionView(View):
    part: terms.Part
    title: str
    sentences: list[str]


class TermsWordsView(View):
    """One version of a programme's terms for people, made from the same terms that commissions are computed with."""

    program_id: ProgramId
    number: int
    valid_from: Moment
    language: Language
    sections: list[SectionView]
    """Without those of which the programme has nothing."""


@router.get("/v1/programs/{program_id}/versions/{number}/words")
def get_program_version_words(
    program_id: ProgramId,
    number: Annotated[int, WRITTEN_INTEGER, Path(ge=1, le=2**31 - 1)],
    caller: ReaderOrAffiliate,
    session: ReadSession,
    language: AskedLanguage,
) -> TermsWordsView:
    """Read one version of a programme's terms in words. An affiliate reads those of programmes it takes part in."""
    if caller.affiliate_id is None:
        find_program(session, caller.merchant_id, program_id)
    else:
        # Says the same of a programme that is there and of one that is not.
        enrolled_since(session, caller.merchant_id, program_id, caller.affiliate_id, at=caller.now)
    row = session.get(ProgramVersionRow, (caller.merchant_id, program_id, number))
    if row is None:
        raise Missing("This programme has no such version.")
    promised = Terms.of_json(row.terms)
    return TermsWordsView(
        program_id=program_id,
        number=number,
        valid_from=row.valid_from,
        language=language,
        sections=sections_of(promised, language, names_in(session, caller, [promised])),
    )


def names_in(session: Session, caller: Caller | AffiliateKey, promised: Sequence[Terms]) -> Names:
    """What terms refer to, as the caller may read it: a KOC is told what agencies are called, and of no other KOC."""
    asked = sorted(frozenset[UUID]().union(*(terms.people_in(each) for each in promised)))
    reader = caller.affiliate_id
    if not asked:
        return Names(caller.merchant.time_zone, reader=reader)
    conditions = [col(AffiliateRow.merchant_id) == caller.merchant_id, col(AffiliateRow.id).in_(asked)]
    if reader is not None:
        conditions.append(col(AffiliateRow.kind) != AffiliateKind.KOC)
    known = session.exec(select(AffiliateRow.id, AffiliateRow.name).where(*conditions)).all()
    # Whoever has no name to show is called by the id the API knows them by.
    people = {each: encode("aff", each) for each in asked} | dict(known)
    return Names(caller.merchant.time_zone, people=people, reader=reader)


def sections_of(promised: Terms, language: Language, names: Names) -> list[SectionView]:
    """Terms in words, section by section."""
    return [
        SectionView(part=section.part, title=section.title, sentences=list(section.sentences))
        for section in terms.sentences(promised, language, names=names)
    ]


def enrolled_since(
    session: Session, merchant_id: UUID, program_id: UUID, affiliate_id: UUID, *, at: datetime
) -> datetime:
    """Since when an affiliate has taken part in a programme without a break. Raises Missing where it does not."""
    rows = session.exec(
        select(EnrollmentRow)
        .where(
            col(EnrollmentRow.merchant_id) == merchant_id,
            col(EnrollmentRow.program_id) == program_id,
            col(EnrollmentRow.affiliate_id) == affiliate_id,
        )
        .order_by(col(EnrollmentRow.valid_from))
    )
    pair = (program_id, affiliate_id)
    enrolled = DatedInputs(enrollments={pair: tuple(Since(row.valid_from, row.enrolled) for row in rows)})
    since = enrolled.enrolled_since(program_id, affiliate_id, at)
    if since is None:
        raise Missing("You take part in no such programme.")
    return since
