"""Which rail pays to which kind of account, and where; a refusal names what would fit."""

import pytest

from service.domain.destination import AccountType
from service.domain.rails import PAYS, RailName, RailNotForPayee, check_fits


@pytest.mark.parametrize(
    ("rail", "kind", "account_in", "payee_in"),
    [
        pytest.param(RailName.SANDBOX, AccountType.PROVIDER, "", None, id="the sandbox, country unknown"),
        pytest.param(RailName.STRIPE_CONNECT, AccountType.PROVIDER, "", "VN", id="a provider knows itself"),
        pytest.param(RailName.SEPA_FILE, AccountType.IBAN, "DE", "VN", id="a German account of somebody in Vietnam"),
        pytest.param(RailName.SEPA_FILE, AccountType.IBAN, "AL", None, id="one of those that joined last"),
        pytest.param(RailName.VN_BANK_FILE, AccountType.BANK, "VN", None, id="a bank in Vietnam"),
        pytest.param(RailName.ALIPAY_FILE, AccountType.ALIPAY, "", "CN", id="Alipay"),
        pytest.param(RailName.WECHAT_FILE, AccountType.WECHAT, "", "CN", id="WeChat"),
        pytest.param(RailName.PAYPAL_FILE, AccountType.PAYPAL, "", None, id="PayPal"),
        pytest.param(RailName.WISE_FILE, AccountType.IBAN, "TR", "TR", id="Wise by IBAN outside SEPA"),
        pytest.param(RailName.WISE_FILE, AccountType.BANK, "CN", "CN", id="Wise to a Chinese bank"),
        pytest.param(RailName.WISE_FILE, AccountType.WISE, "", None, id="Wise by address"),
    ],
)
def test_a_rail_pays_where_it_can(rail: RailName, kind: AccountType, account_in: str, payee_in: str | None) -> None:
    check_fits(rail, kind, account_in=account_in, payee_in=payee_in)


@pytest.mark.parametrize(
    ("rail", "kind", "account_in", "payee_in", "told"),
    [
        pytest.param(RailName.SEPA_FILE, AccountType.IBAN, "TR", "DE", "wise_file", id="an IBAN outside SEPA"),
        pytest.param(RailName.VN_BANK_FILE, AccountType.BANK, "CN", "VN", "is in CN", id="a Chinese bank"),
        pytest.param(RailName.ALIPAY_FILE, AccountType.ALIPAY, "", "VN", "vn_bank_file", id="not in China"),
        pytest.param(RailName.WECHAT_FILE, AccountType.WECHAT, "", None, "country first", id="country unknown"),
        pytest.param(RailName.VN_BANK_FILE, AccountType.IBAN, "DE", "DE", "sepa_file, wise_file", id="another kind"),
        pytest.param(RailName.SEPA_FILE, AccountType.PROVIDER, "", "DE", "stripe_connect", id="no id at a provider"),
    ],
)
def test_where_it_cannot_the_refusal_says_what_would(
    rail: RailName, kind: AccountType, account_in: str, payee_in: str | None, told: str
) -> None:
    with pytest.raises(RailNotForPayee) as refused:
        check_fits(rail, kind, account_in=account_in, payee_in=payee_in)

    assert told in refused.value.detail


def test_every_rail_and_every_kind_of_account_has_its_place() -> None:
    assert set(PAYS) == set(RailName)
    assert {kind for kinds in PAYS.values() for kind in kinds} == set(AccountType)
