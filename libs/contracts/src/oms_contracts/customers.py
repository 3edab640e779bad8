"""Customers' keys, owned by capture, on oms.customers and oms.customer-keys; and the command that erases a customer.

Personal data that is kept for ever is sealed with a key of its customer. To erase a customer is to delete the key.
"""

from datetime import datetime

from oms_contracts.message import Value, message
from oms_contracts.values import Prose


@message("oms.capture.CustomerKeyIssued.v1", key="key_id")
class CustomerKeyIssued(Value, frozen=True, kw_only=True):
    """A customer has a key: what capture accepts for that customer from now on is sealed with it.

    On oms.customers, which keeps records for ever, it names the key alone. On oms.customer-keys, where the newest record of each key stays,
    it carries the rest: `wrapped_key` is the key, encrypted by the installation's key, in base64; `customer`, `email` and `words` are keyed
    hashes by which a search finds the key: of who the customer is, and of each word of the names in the customer's orders. It is issued
    again when an order has further words.
    """

    key_id: str
    at: datetime
    wrapped_key: str = ""
    customer: str = ""
    email: str = ""
    words: tuple[str, ...] = ()


@message("oms.capture.CustomerKeyErased.v1", key="key_id")
class CustomerKeyErased(Value, frozen=True, kw_only=True):
    """The key is deleted, and whoever keeps a copy deletes it. What was sealed with it can no longer be read by anybody.

    It takes the place of CustomerKeyIssued on oms.customer-keys, and stays there: a store that was restored from a backup and has the key
    again learns of it, which it would not from a tombstone, because a broker removes those after a day.
    """

    key_id: str
    request_id: str
    at: datetime


@message("oms.capture.CustomerErased.v1", key="request_id")
class CustomerErased(Value, frozen=True, kw_only=True):
    """EraseCustomer was carried out. `keys` were deleted; none where nothing was known of such a customer."""

    request_id: str
    keys: tuple[str, ...]
    reason: Prose
    at: datetime


@message("oms.capture.EraseCustomer.v1", key="request_id")
class EraseCustomer(Value, frozen=True, kw_only=True):
    """Erase what is known of a customer: the one that `channel` knows by `customer_id`, or everyone with the address `email`, or both.

    The same `request_id` again changes nothing.
    """

    request_id: str
    reason: Prose
    channel: str | None = None
    customer_id: str | None = None
    email: str | None = None
