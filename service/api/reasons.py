"""Why somebody decides: a word of the list that belongs to the decision, a note, and what it rests on."""

from collections.abc import Sequence
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator
from pydantic.types import Strict
from pydantic_core import PydanticCustomError

from service.api.views import Body, Text
from service.domain.review import ReviewReason

EVIDENCE_MAX = 10

Note = Annotated[Text, Field(max_length=2000)]
"""What a person says beside the word."""


def _address(text: str) -> str:
    try:
        parts = urlsplit(text)
        sound = parts.scheme == "https" and parts.hostname and parts.username is None and parts.password is None
    except ValueError:
        sound = False
    if not sound or any(char.isspace() or not char.isprintable() for char in text):
        raise PydanticCustomError("evidence", "Must be an address that begins with https://, without a password in it")
    return text


EvidenceUrl = Annotated[
    str, Strict(), Field(min_length=1, max_length=2000, examples=["https://files.example/chat.png"]),
    AfterValidator(_address),
]  # fmt: skip
Evidence = Annotated[list[EvidenceUrl], Field(max_length=EVIDENCE_MAX)]
"""Addresses of pictures, chats, videos; kept as they are and never fetched."""


def one_of_reasons(reasons: Sequence[ReviewReason]) -> Any:
    """The type of a word out of a closed list."""
    listed = ", ".join(reasons)

    def check(given: ReviewReason) -> ReviewReason:
        if given not in reasons:
            raise PydanticCustomError("reason", "Must be one of {listed}", {"listed": listed})
        return given

    return Annotated[
        ReviewReason,
        AfterValidator(check),
        WithJsonSchema({"type": "string", "enum": [each.value for each in reasons]}),
    ]


class Because(Body):
    """A decision's note and evidence; the word itself stands in each decision's own list."""

    note: Note = ""
    """In your own words; kept with the decision and shown to the merchant's people. Needed with the reason `other`."""
    evidence: Evidence = Field(default_factory=list)
    """Addresses (https) of what it rests on, ten at most."""

    @model_validator(mode="after")
    def _other_is_explained(self) -> Self:
        if getattr(self, "reason_code", None) is ReviewReason.OTHER and not self.note.strip():
            raise PydanticCustomError("note", "Say in the note what the reason is, where it is `other`")
        return self
