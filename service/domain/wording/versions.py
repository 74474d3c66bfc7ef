"""Which versions of a programme's terms count for an affiliate, and what comes next, in sentences."""

from collections.abc import Sequence
from datetime import datetime

from service.domain.program import Claim, ProgramVersion
from service.domain.wording.figures import Speech
from service.domain.wording.languages import Words

_NONE = Words(
    "No terms are in force now.",
    "Hiện chưa có điều khoản nào có hiệu lực.",
    "目前没有生效的条款。",
)
_ONE = Words(
    "Orders placed now count by version {version}.",
    "Đơn đặt bây giờ được tính theo phiên bản {version}.",
    "现在下的订单按第{version}版条款计算。",
)
_SEVERAL = Words(
    "For each order placed now, the one of these versions counts that gives you most: {versions}.",
    "Mỗi đơn đặt bây giờ được tính theo phiên bản có lợi nhất cho bạn trong số: {versions}.",
    "现在下的每个订单，按以下版本中对您最有利的一版计算：{versions}。",
)
_PROTECTED = Words(
    "Version {version} was replaced and goes on for orders placed before {until}.",
    "Phiên bản {version} đã được thay thế, nhưng vẫn áp dụng cho các đơn đặt trước {until}.",
    "第{version}版已被替换，但对{until}前下的订单继续有效。",
)
_UPCOMING = Words(
    "Version {version} begins on {begins}: from then on it counts for you wherever it gives you more. Where it gives you less, it "
    "counts only for orders placed from {worse_from} on.",
    "Phiên bản {version} bắt đầu từ {begins}: từ đó, phần nào có lợi hơn cho bạn được áp dụng ngay. Phần nào kém hơn chỉ áp dụng "
    "cho các đơn đặt từ {worse_from} trở đi.",
    "第{version}版于{begins}开始生效：对您更有利的部分立即适用；对您不利的部分只适用于{worse_from}及以后下的订单。",
)
_UPCOMING_AT_ONCE = Words(
    "Version {version} begins on {begins} and counts for all orders placed from then on.",
    "Phiên bản {version} bắt đầu từ {begins} và áp dụng cho mọi đơn đặt từ lúc đó.",
    "第{version}版于{begins}开始生效，适用于此后下的所有订单。",
)


def worse_from(upcoming: ProgramVersion, counting: Sequence[Claim]) -> datetime:
    """From when on an upcoming version counts alone, also where it gives less than those that count before it."""
    return max([upcoming.valid_from, *(claim.until for claim in counting if claim.until is not None)])


def sentences(counting: Sequence[Claim], upcoming: ProgramVersion | None, speech: Speech) -> list[str]:
    """What counts for orders placed now, and what the next version changes when. counting: of `claims`."""
    told = [_counting(counting, speech)]
    for claim in counting[1:]:
        if claim.until is not None:
            told.append(
                speech.say(_PROTECTED, version=claim.version.number, until=speech.moment(claim.until)),
            )
    if upcoming is not None:
        alone_from = worse_from(upcoming, counting)
        words = _UPCOMING if alone_from > upcoming.valid_from else _UPCOMING_AT_ONCE
        told.append(
            speech.say(
                words,
                version=upcoming.number,
                begins=speech.moment(upcoming.valid_from),
                worse_from=speech.moment(alone_from),
            )
        )
    return told


def _counting(counting: Sequence[Claim], speech: Speech) -> str:
    if not counting:
        return speech.say(_NONE)
    if len(counting) == 1:
        return speech.say(_ONE, version=counting[0].version.number)
    return speech.say(_SEVERAL, versions=speech.either(str(claim.version.number) for claim in counting))
