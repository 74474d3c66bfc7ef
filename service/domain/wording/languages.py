"""The languages there are, which of them somebody wants, and one thing said in all of them."""

from dataclasses import dataclass
from enum import StrEnum
from re import compile as pattern
from typing import assert_never


class Language(StrEnum):
    EN = "en"
    """English."""
    VI = "vi"
    """Vietnamese."""
    ZH = "zh"
    """Chinese, in simplified characters."""


@dataclass(frozen=True, slots=True)
class Words:
    """One thing in every language. Names in braces are filled in when it is said."""

    en: str
    vi: str
    zh: str

    def to(self, language: Language, **values: object) -> str:
        """The words in a language, with their braces filled."""
        match language:
            case Language.EN:
                words = self.en
            case Language.VI:
                words = self.vi
            case Language.ZH:
                words = self.zh
            case _:
                assert_never(language)
        return words.format(**values)


_RANGES_MAX = 50
"""More than this nobody's browser names; what follows is not read."""
# RFC 9110, section 12.4.2: at most three decimals, at most 1.
_WEIGHT = pattern(r"[qQ]\s*=\s*(?:0(?:\.([0-9]{0,3}))?|1(?:\.0{0,3})?)")
_ONE = 1000


def preferred(accept_language: str) -> Language:
    """The language a reader wants most of those there are; English where none of them is named.

    accept_language: as the header of RFC 9110, section 12.5.4. Regions and scripts say nothing: "zh-Hant" is nearer to
    our Chinese than to English. What cannot be read in it is passed over. Of equal wishes the first counts.
    """
    best, found = 0, Language.EN
    for wish in accept_language.split(",")[:_RANGES_MAX]:
        tag, _, parameter = wish.partition(";")
        name = tag.strip().lower().partition("-")[0]
        weight = _weight(parameter.strip())
        if name in _NAMES and weight > best:
            best, found = weight, Language(name)
    return found


_NAMES = frozenset(Language)


def _weight(parameter: str) -> int:
    """Thousandths; 0 where it is none, or says "not this one"."""
    if not parameter:
        return _ONE
    written = _WEIGHT.fullmatch(parameter)
    if written is None:
        return 0
    if parameter.partition("=")[2].strip().startswith("1"):
        return _ONE
    return int((written[1] or "").ljust(3, "0"))
