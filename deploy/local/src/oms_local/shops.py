"""The shops whose webhooks the stack takes, one of each platform. Their secrets are random, made once, and for their owner only."""

import json
import secrets
from pathlib import Path
from typing import Any

from oms_provision.passwords import write_secret

FILE = "shops.json"
SHOPS = {
    "web": {"platform": "shopify", "source": "orderstream.myshopify.com"},
    "marketplace": {"platform": "woocommerce", "source": "https://orderstream.example"},
}
"""By channel."""


def load_or_make(folder: Path) -> dict[str, dict[str, Any]]:
    """The shops with their secrets, made and saved in `folder` where they are not there yet. Raises OSError."""
    file = folder / FILE
    if not file.exists():
        write_secret(file, json.dumps({channel: shop | {"secrets": [secrets.token_urlsafe(24)]} for channel, shop in SHOPS.items()}))
    return json.loads(file.read_text())
