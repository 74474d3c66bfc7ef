"""One adapter for each platform that sends webhooks; the desk sends none."""

from service.intake.adapters import generic, shopify, stripe, tiktok_shop
from service.intake.adapters.model import Adapter
from service.tables.parties import Platform

ADAPTERS: dict[Platform, Adapter] = {
    Platform.GENERIC: generic.ADAPTER,
    Platform.SHOPIFY: shopify.ADAPTER,
    Platform.STRIPE: stripe.ADAPTER,
    Platform.TIKTOK_SHOP: tiktok_shop.ADAPTER,
}
