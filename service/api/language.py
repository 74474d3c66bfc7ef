"""In which language the words of an answer are: what the query names, else what the reader's browser wants."""

from typing import Annotated

from fastapi import Depends, Header, Query, Response

from service.domain.wording.languages import Language, preferred


async def _asked(
    response: Response,
    language: Annotated[
        Language | None,
        Query(description="Of the words in the answer; left out, that of `Accept-Language`, else English."),
    ] = None,
    accept_language: Annotated[
        str,
        Header(
            alias="Accept-Language", description="Read where `language` is left out, such as `vi-VN,vi;q=0.9,en;q=0.5`."
        ),
    ] = "",
) -> Language:
    chosen = language or preferred(accept_language)
    response.headers["Content-Language"] = chosen.value
    response.headers["Vary"] = "Accept-Language"
    return chosen


AskedLanguage = Annotated[Language, Depends(_asked)]
"""The language of an answer's words. Codes and amounts beside them are the same in all."""
