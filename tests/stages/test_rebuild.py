"""Books made again from deliveries, dated inputs and settle dates: equal where they are honest, named where not."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy import Engine

from service.commissions import inputs
from service.infra.db import make_engine, read_session
from service.ledger.audit import check
from service.rebuild.books import Rebuilt, rebuild
from tests.support.told_shop import ToldShop, a_shop_with_everything

NewDatabase = Callable[..., AbstractContextManager[str]]


def test_books_in_which_everything_happened_come_out_the_same(engine: Engine, new_database: NewDatabase) -> None:
    shop = a_shop_with_everything(engine)
    with read_session(engine) as session:
        assert check(session, shop.merchant_id) == []

    rebuilt = made_again(shop, new_database)

    assert rebuilt.findings == []
    assert rebuilt.deliveries > 30


def made_again(shop: ToldShop, new_database: NewDatabase) -> Rebuilt:
    # Terms are remembered because nobody may change them; these tests do.
    inputs._terms.clear()
    with new_database(migrated=True) as url:
        into = make_engine(url, pool_size=1)
        try:
            return rebuild(shop.engine, into, shop.merchant_id, shop.security, tell=lambda *_: None)
        finally:
            into.dispose()
