"""How links and affiliates are marked, and from when: what rules may ask about a channel and a tier."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ContentType(StrEnum):
    """What a link is shown in."""

    POST = "post"
    VIDEO = "video"
    LIVE = "live"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Label:
    """How a link was marked from a moment on. channel: a word of the merchant's own, such as "web" or "zalo".

    sub_ids: (name, value) of sub1 to sub5 as far as they are set, sorted.
    """

    valid_from: datetime
    content_type: ContentType | None = None
    channel: str = ""
    sub_ids: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Grade:
    """Which tier an affiliate has from a moment on, and which groups it is in."""

    valid_from: datetime
    tier: str = ""
    groups: frozenset[str] = frozenset()
