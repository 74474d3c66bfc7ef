"""One adapter for each platform that sends webhooks; the desk sends none. docs/adapters.md says how to add one."""

from service.intake.adapters import generic, haravan, shopify, stripe, tiktok_shop, woocommerce
from service.intake.adapters.model import Adapter
from service.tables.parties import Platform

ADAPTERS: dict[Platform, Adapter] = {
    Platform.GENERIC: generic.ADAPTER,
    Platform.SHOPIFY: shopify.ADAPTER,
    Platform.WOOCOMMERCE: woocommerce.ADAPTER,
    Platform.HARAVAN: haravan.ADAPTER,
    Platform.STRIPE: stripe.ADAPTER,
    Platform.TIKTOK_SHOP: tiktok_shop.ADAPTER,
}
