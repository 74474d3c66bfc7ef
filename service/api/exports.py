"""Everything a merchant owns, to take away: one stream of JSON lines."""

import contextlib
from collections.abc import Generator, Iterator
from itertools import chain
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse

from service.api.deps import Admin, Download, OwnUnits
from service.infra import ids
from service.infra.clock import utc_now
from service.reports.export import export

router = APIRouter(tags=["exports"])


def _ending(engine: OwnUnits, place: Download) -> Iterator[contextlib.ExitStack]:
    """What has to be closed when the answer has left, also when its reader has left in the middle."""
    del engine, place
    with contextlib.ExitStack() as ending:
        yield ending


@router.get(
    "/v1/export.ndjson",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
)
def get_export(
    caller: Admin, engine: OwnUnits, ending: Annotated[contextlib.ExitStack, Depends(_ending)]
) -> StreamingResponse:
    """Return everything the merchant owns as JSON lines, as of one moment: deliveries byte for byte, facts, postings, all.

    Each line has a `kind`, the last one is `end` with the number of rows and the SHA-256 of all lines before it: without
    it the stream was cut. No secrets, no keys, no account numbers are in it; buyers' data may be, in what shops sent.
    """
    blocks: Generator[bytes] = export(engine, caller.merchant_id, at=utc_now())
    ending.callback(blocks.close)
    # The first block before the answer begins, so that what goes wrong with the first query is still told as a problem.
    first = next(blocks)
    name = f"{ids.encode('mer', caller.merchant_id)}-{caller.now:%Y-%m-%d}.ndjson"
    return StreamingResponse(
        chain([first], blocks),
        media_type="application/x-ndjson",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )
