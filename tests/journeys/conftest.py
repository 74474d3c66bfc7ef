"""The service as its users meet it."""

from tests.support.served import client, settings, shop

__all__ = ["client", "settings", "shop"]
