"""Work that runs by itself, asked for now."""

from fastapi import APIRouter

from service.api.deps import FinanceMaker, OwnUnits
from service.api.views import View
from service.commissions.due import do_due

router = APIRouter(tags=["jobs"])


class SettledView(View):
    """What a settlement did."""

    settled: int
    """Commissions of which something became payable."""
    advanced: int
    """Advances given on what is late for its pay day."""


@router.post("/v1/jobs/settle")
def settle_now(caller: FinanceMaker, engine: OwnUnits) -> SettledView:
    """Make payable what is due by the merchant's clock, give the advances that are due, and look at the budgets.

    The worker does the same by itself, twice a minute.
    """
    done = do_due(engine, caller.merchant_id)
    return SettledView(settled=done.settled, advanced=done.advanced)
