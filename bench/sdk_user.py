"""What somebody does who has the generated client and nothing else; started by `bench.sdk` in an environment of its own.

Arguments: the service's address, an operator's key.
"""

import base64
import hashlib
import hmac
import json
import sys
from datetime import UTC, datetime

import httpx2
from koc_client import AuthenticatedClient
from koc_client.api.affiliates import approve_affiliate, create_affiliate, create_enrollment
from koc_client.api.commissions import get_commission_receipt, list_commissions
from koc_client.api.coupons import create_coupon
from koc_client.api.merchants import create_merchant
from koc_client.api.orders import get_order
from koc_client.api.programs import create_program
from koc_client.api.sources import create_source
from koc_client.models import (
    AffiliateCreate,
    CouponCreate,
    Decision,
    EnrollmentCreate,
    MerchantCreate,
    PercentRuleDocumentInput,
    Problem,
    ProgramCreate,
    SourceCreate,
    SourceCreatePlatform,
    TermsDocumentInput,
)


def main(url: str, operator_key: str) -> None:
    """Set up a shop, send one signed order, read what it earned."""
    operator = AuthenticatedClient(base_url=url, token=operator_key)
    merchant = create_merchant.sync(
        client=operator, body=MerchantCreate(name="Tea House", time_zone="Asia/Ho_Chi_Minh", is_test=True)
    )
    admin = AuthenticatedClient(base_url=url, token=merchant.admin_key.key)
    terms = TermsDocumentInput(rules=[PercentRuleDocumentInput(kind="percent", rate="12.5")])
    program = create_program.sync(
        client=admin,
        body=ProgramCreate(
            name="Friends", terms=terms, allowed_domains=["tea.example"], fallback_url="https://tea.example/"
        ),
    ).program
    print("ok a programme", program.id)

    ann = create_affiliate.sync(client=admin, body=AffiliateCreate(name="Ann"))
    approve_affiliate.sync(ann.id, client=admin, body=Decision())
    create_enrollment.sync(ann.id, client=admin, body=EnrollmentCreate(program_id=program.id))
    create_coupon.sync(client=admin, body=CouponCreate(affiliate_id=ann.id, program_id=program.id, code="ANN10"))
    print("ok a KOC with a coupon", ann.id)

    shop = create_source.sync(client=admin, body=SourceCreate(name="shop", platform=SourceCreatePlatform.GENERIC))
    told = _send(shop.source.webhook_url, shop.secret)
    [commission] = list_commissions.sync(client=admin).data
    assert commission.target.amount_minor == 31250, commission
    receipt = get_commission_receipt.sync(commission.id, client=admin)
    assert "31250" in json.dumps(receipt.to_dict()), receipt
    print("ok an order earned", commission.target.amount_minor, commission.target.currency)

    refused = get_order.sync("ord_01h455vb4pex5vsknk084sn02q", client=admin)
    assert isinstance(refused, Problem), refused
    assert refused.status == 404
    assert get_order.sync(told["order_id"], client=admin).id == told["order_id"]
    print("ok a problem is a value:", refused.code)


def _send(address: str, secret: str) -> dict[str, str]:
    now = datetime.now(UTC)
    order = {
        "type": "order",
        "id": "1001",
        "updated_at": now.isoformat(),
        "placed_at": now.isoformat(),
        "currency": "VND",
        "coupon_codes": ["ann10"],
        "lines": [{"id": "1", "sku": "OOLONG", "net": "250000"}],
    }
    body, moment = json.dumps(order).encode(), str(int(now.timestamp()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.new(key, b".".join([b"msg_1", moment.encode(), body]), hashlib.sha256).digest()
    headers = {
        "content-type": "application/json",
        "webhook-id": "msg_1",
        "webhook-timestamp": moment,
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }
    answer = httpx2.post(address, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    told: dict[str, str] = answer.json()
    return told


if __name__ == "__main__":
    main(*sys.argv[1:])
