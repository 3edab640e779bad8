"""Customers' keys in a service's store: what `customer_keys` holds, and how it follows oms.customer-keys."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from oms_contracts.customers import CustomerKeyErased, CustomerKeyIssued
from oms_contracts.order_parts import SealedData

from oms_runtime.database import Connection
from oms_runtime.errors import KeyNotArrived, WrongInstallationKey
from oms_runtime.model import IncomingRecord
from oms_runtime.sealing import BrokenSeal, Sealer

KEY_MESSAGES = (CustomerKeyIssued, CustomerKeyErased)


class CustomerKey(NamedTuple):
    """A customer's key, encrypted. `customer`, `email` and `words` are keyed hashes; `email` is empty where the customer has none."""

    key_id: str
    wrapped_key: str
    customer: str
    email: str
    words: tuple[str, ...] = ()


def customer_hash(sealer: Sealer, channel: str | None, customer_id: str | None) -> str:
    """How a customer is found by what a channel calls him, empty where that is not given."""
    return sealer.lookup("customer", channel, customer_id) if channel and customer_id else ""


def email_hash(sealer: Sealer, email: str | None) -> str:
    """How customers are found by an e-mail address, empty where there is none. Its case is of no matter."""
    return sealer.lookup("email", folded(email)) if email else ""


def word_hashes(sealer: Sealer, words: Iterable[str]) -> list[str]:
    """How customers are found by words of names, as `words_of` has them."""
    return [sealer.lookup("word", word) for word in words]


def words_of(name: str) -> list[str]:
    """The words of a name as they are compared: each once, in its order, without regard to case, accents and punctuation."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    return list(dict.fromkeys(re.findall(r"[^\W_]+", "".join(each for each in plain if not unicodedata.combining(each)))))


def folded(email: str) -> str:
    """An e-mail address as it is compared."""
    return email.strip().casefold()


async def keep_customer_keys(connection: Connection, batch: Sequence[IncomingRecord]) -> None:
    """Bring the store's keys up to date with records of oms.customer-keys. A key that was erased never comes back."""
    await save_keys(connection, {record.message.key_id: key_in(record.message) for record in batch}.values())


def key_in(message: CustomerKeyIssued | CustomerKeyErased) -> CustomerKey:
    """The key as a message has it, empty where it was erased."""
    if isinstance(message, CustomerKeyErased):
        return erased_key(message.key_id)
    return CustomerKey(message.key_id, message.wrapped_key, message.customer, message.email, message.words)


def erased_key(key_id: str) -> CustomerKey:
    """What stays of a key that is erased."""
    return CustomerKey(key_id, "", "", "")


async def save_keys(connection: Connection, keys: Iterable[CustomerKey]) -> None:
    """Save keys; one without a `wrapped_key` erases it, and of one that was erased nothing changes."""
    columns = [list(column) for column in zip(*((*key[:-1], " ".join(key.words)) for key in keys), strict=True)]
    if columns:
        await connection.execute(
            """insert into customer_keys as k (key_id, wrapped_key, customer, email, words)
               select key_id, wrapped_key, customer, email, string_to_array(words, ' ')
               from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) as n (key_id, wrapped_key, customer, email, words)
               on conflict (key_id) do update
               set wrapped_key = excluded.wrapped_key, customer = excluded.customer, email = excluded.email, words = excluded.words
               where k.wrapped_key <> ''""",
            *columns,
        )


async def wrapped_keys(connection: Connection, key_ids: Iterable[str]) -> dict[str, str]:
    """The encrypted keys by id, an empty text for one that was erased. Raises KeyNotArrived where one is not in the store."""
    asked = set(key_ids)
    found = await connection.fetch("select key_id, wrapped_key from customer_keys where key_id = any($1::text[])", sorted(asked))
    keys = {row["key_id"]: row["wrapped_key"] for row in found}
    if missing := asked - keys.keys():
        raise KeyNotArrived(f"{len(missing)} keys of customers have not arrived on oms.customer-keys yet, among them {min(missing)}")
    return keys


async def open_sealed(connection: Connection, sealer: Sealer, sealed: Mapping[str, SealedData]) -> dict[str, bytes]:
    """Personal data by order id, without that of erased customers.

    Raises KeyNotArrived where a key is not in the store, WrongInstallationKey where it cannot be used, and BrokenSeal where the data is not
    what was sealed.
    """
    keys = await wrapped_keys(connection, {each.key_id for each in sealed.values()}) if sealed else {}
    return {
        order_id: opened
        for order_id, each in sealed.items()
        if (opened := open_with(sealer, keys[each.key_id], order_id, each)) is not None
    }


def open_with(sealer: Sealer, wrapped_key: str, order_id: str, sealed: SealedData) -> bytes | None:
    """An order's personal data; None where the key was erased. Raises as `open_sealed`."""
    return sealer.open(unwrap(sealer, sealed.key_id, wrapped_key), sealed.data, order_id) if wrapped_key else None


def unwrap(sealer: Sealer, key_id: str, wrapped_key: str) -> AESGCM:
    """A stored key, ready for use. Raises WrongInstallationKey: a store's keys open under the installation's key, or it is another one."""
    try:
        return sealer.unwrap(key_id, wrapped_key)
    except BrokenSeal as error:
        raise WrongInstallationKey from error
