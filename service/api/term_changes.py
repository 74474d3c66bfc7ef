"""What two versions of terms differ in, as the API and events tell it."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field

from service.api.terms import TermsDocument
from service.api.views import View
from service.domain.notice import Change, ChangeEffect, ChangeKind, differences


class ChangeView(View):
    """One place in which two versions of terms differ."""

    pointer: str = Field(examples=["/rules/0/rate"])
    """Into the terms (RFC 6901)."""
    kind: ChangeKind
    old: Any = Field(alias="from")
    """Null where it was added."""
    new: Any = Field(alias="to")
    """Null where it was removed."""
    effect: ChangeEffect
    """What this change alone means for affiliates as a whole."""

    @classmethod
    def of(cls, change: Change) -> Self:
        return cls.model_validate(
            {
                "pointer": change.pointer,
                "kind": change.kind,
                "from": change.old,
                "to": change.new,
                "effect": change.effect,
            }
        )


def changes_between(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[ChangeView]:
    """What is other in new terms than in old ones, both as the database keeps them; pointers lead into what is shown."""
    before, after = (TermsDocument.of(stored).model_dump(mode="json") for stored in (old, new))
    return [ChangeView.of(change) for change in differences(before, after)]
