"""GET /llms.txt: what a program that reads for people has to know to use this service, as https://llmstxt.org proposes."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from service.api.owners import PUBLIC

router = APIRouter(tags=["description"])

_TEXT = (Path(__file__).parent / "llms.txt").read_text(encoding="utf-8")


@router.get("/llms.txt", openapi_extra=PUBLIC, response_class=PlainTextResponse)
async def get_llms_txt() -> PlainTextResponse:
    """How to use this service, for language models and those who write with them: Markdown, with links to the rest."""
    return PlainTextResponse(_TEXT, headers={"cache-control": "public, max-age=3600"})
