"""What distinguishes two contents under one channel reference."""

from hashlib import sha256

import msgspec

from oms_contracts.channel import OrderPlaced
from oms_contracts.superseded import placed_in_version_1

_encode = msgspec.json.Encoder(order="deterministic").encode


def content_hash_of(placed: OrderPlaced) -> str:
    """The `content_hash` in OrderAccepted, OrderRejected and OrderConflictReported: the SHA-256 of the order as `encode` writes it.

    Its `attributes` are written in the order of their names, because JSON objects have none. An order that says no more than version
    1 could is written in version 1: the same order is the same in whichever version it comes.
    """
    return sha256(_encode(placed_in_version_1(placed) or placed)).hexdigest()
