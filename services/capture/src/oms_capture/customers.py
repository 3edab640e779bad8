"""What capture does about customers beside its decisions: it seals what orders say of persons, and erases customers' keys.

An order is sealed with the key of its customer, which is who the order's channel, customer id and e-mail address name. A customer without a
key gets one in the transaction that accepts the order. No rule decides any of it, and a key must not be in an event, because events are
kept for ever: so it is no part of the decider.
"""

from base64 import b64decode
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec
from msgspec.structs import replace
from oms_contracts.channel import OrderPlaced
from oms_contracts.customers import CustomerErased, CustomerKeyErased, CustomerKeyIssued, EraseCustomer
from oms_contracts.message import decode, encode, type_of
from oms_contracts.order_parts import PersonalData, SealedData, names_in
from oms_contracts.orders import OrderAccepted
from oms_runtime.customer_keys import CustomerKey, customer_hash, email_hash, erased_key, folded, save_keys, unwrap, word_hashes, words_of
from oms_runtime.database import Connection
from oms_runtime.dead_letters import forget_values
from oms_runtime.model import Cause, CausedCommands, Command, StoredEvent
from oms_runtime.sealing import KEY_BYTES, NONCE_BYTES, Sealer
from oms_runtime.unit_of_work import UnitOfWork

from oms_capture.commands import PlaceOrder, TakeWebhook

TOPIC = "oms.customers"
_ACCEPTED = type_of(OrderAccepted).name
_KEY_ID_BYTES = 16
MAX_WORDS = 100
"""By which a customer is found. An event has room for them, and a customer who has more is found by the first."""


class Identity(NamedTuple):
    """Who a customer is, as keyed hashes. `email` is empty where an order names none."""

    customer: str
    email: str


class Customers:
    """The companion of capture's decisions. `random_bytes` makes keys, their ids, and nonces."""

    def __init__(self, sealer: Sealer, random_bytes: Callable[[int], bytes]) -> None:
        self._sealer = sealer
        self._random_bytes = random_bytes
        self._key_is_checked = False

    async def prepare(self, connection: Connection, commands: CausedCommands) -> CausedCommands:
        """Seal what orders say of persons. Raises WrongInstallationKey where the store's keys were made under another one."""
        placings = [(command, _placing(command), cause) for command, cause in commands]
        identities = {id(placing): self._identity(placing.placed) for _, placing, _ in placings if placing is not None}
        if not identities:
            return commands
        if not self._key_is_checked:
            await self._check_key(connection)
        keys = await self._keys(connection, set(identities.values()))
        new = {identity: self._new_key(identity) for identity in set(identities.values()) - keys.keys()}
        keys |= new
        prepared: list[tuple[Command, Cause]] = []
        for command, placing, cause in placings:
            if placing is None:
                prepared.append((command, cause))
                continue
            identity = identities[id(placing)]
            sealed = self._sealed(placing, keys[identity], new.get(identity))
            prepared.append((replace(command, place=sealed) if isinstance(command, TakeWebhook) else sealed, cause))
        return prepared

    async def conclude(self, connection: Connection, unit: UnitOfWork, commands: CausedCommands) -> None:
        """Keep the new keys that accepted orders are sealed with, and carry out erasures."""
        accepted = {event.stream for event in unit.events if event.type == _ACCEPTED}
        issued: dict[str, CustomerKey] = {}
        known: dict[str, Cause] = {}
        words: defaultdict[str, dict[str, None]] = defaultdict(dict)
        for command, cause in commands:
            placing = _placing(command)
            if placing is None or placing.sealed is None or placing.order_id not in accepted:
                continue
            key_id = placing.sealed.key_id
            if placing.new_key is not None and key_id not in issued:
                issued[key_id] = placing.new_key
                unit.append(CustomerKeyIssued(key_id=key_id, at=unit.now), f"customer-key/{key_id}", 1, TOPIC, cause)
            if placing.new_words:
                words[key_id].update(dict.fromkeys(placing.new_words))
                if placing.new_key is None:
                    known[key_id] = cause
        await save_keys(connection, [key._replace(words=tuple(words[key_id])[:MAX_WORDS]) for key_id, key in issued.items()])
        if known:
            await self._add_words(connection, unit, known, words)
        for command, cause in commands:
            if isinstance(command, EraseCustomer):
                await self._erase(connection, unit, command, cause)

    async def _add_words(
        self, connection: Connection, unit: UnitOfWork, known: Mapping[str, Cause], words: Mapping[str, Iterable[str]]
    ) -> None:
        """Have known customers found by further words, and issue their keys again with them."""
        rows = await connection.fetch(
            """select key_id, wrapped_key, customer, email, words,
                      (select max(version) from events where stream = 'customer-key/' || key_id) as version
               from customer_keys where key_id = any($1::text[]) and cardinality(words) < $2 order by key_id""",
            list(known),
            MAX_WORDS,
        )
        keys: list[CustomerKey] = []
        for *columns, found, version in (row.values() for row in rows):
            key = CustomerKey(*columns)
            keys.append(key._replace(words=tuple(dict.fromkeys((*found, *words[key.key_id])))[:MAX_WORDS]))
            issued = CustomerKeyIssued(key_id=key.key_id, at=unit.now)
            unit.append(issued, f"customer-key/{key.key_id}", version + 1, TOPIC, known[key.key_id])
        await save_keys(connection, keys)

    def _identity(self, placed: OrderPlaced) -> Identity:
        return Identity(customer_hash(self._sealer, placed.channel, placed.customer.id), email_hash(self._sealer, placed.customer.email))

    def _new_key(self, identity: Identity) -> CustomerKey:
        key_id = self._random_bytes(_KEY_ID_BYTES).hex()
        return CustomerKey(key_id, self._sealer.wrap(key_id, self._random_bytes(KEY_BYTES), self._random_bytes(NONCE_BYTES)), *identity)

    def _sealed(self, command: PlaceOrder, key: CustomerKey, new_key: CustomerKey | None) -> PlaceOrder:
        unwrapped = unwrap(self._sealer, key.key_id, key.wrapped_key)
        sealed = self._sealer.seal(unwrapped, encode(personal_data_of(command.placed)), self._random_bytes(NONCE_BYTES), command.order_id)
        new_words = () if len(key.words) >= MAX_WORDS else self._new_words(command.placed, key)
        return replace(command, sealed=SealedData(key_id=key.key_id, data=sealed), new_key=new_key, new_words=new_words)

    def _new_words(self, placed: OrderPlaced, key: CustomerKey) -> tuple[str, ...]:
        words = dict.fromkeys(word for name in names_in(personal_data_of(placed)).values() for word in words_of(name))
        return tuple(each for each in word_hashes(self._sealer, words) if each not in key.words)

    async def _check_key(self, connection: Connection) -> None:
        """A key of the store must open under ours, or customers' data would be sealed under two installation keys."""
        row = await connection.fetchrow("select key_id, wrapped_key from customer_keys where wrapped_key <> '' limit 1")
        if row is not None:
            unwrap(self._sealer, row["key_id"], row["wrapped_key"])
        self._key_is_checked = True

    async def _keys(self, connection: Connection, identities: set[Identity]) -> dict[Identity, CustomerKey]:
        """The keys of customers who have one; the oldest by id where a restored store had made a second."""
        found = await connection.fetch(
            """select distinct on (customer, email) key_id, wrapped_key, customer, email, words
               from unnest($1::text[], $2::text[]) as asked (customer, email) join customer_keys using (customer, email)
               where customer <> '' order by customer, email, key_id""",
            [identity.customer for identity in identities],
            [identity.email for identity in identities],
        )
        return {Identity(row["customer"], row["email"]): CustomerKey(*row.values()) for row in found}

    async def _erase(self, connection: Connection, unit: UnitOfWork, command: EraseCustomer, cause: Cause) -> None:
        stream = f"erasure/{command.request_id}"
        known = await connection.fetchval("select exists (select from events where stream = $1)", stream)
        if known or any(event.stream == stream for event in unit.events):
            return
        customer, email = customer_hash(self._sealer, command.channel, command.customer_id), email_hash(self._sealer, command.email)
        found = await connection.fetch(
            """select key_id from customer_keys
               where customer <> '' and (customer = $1 or customer in (select customer from customer_keys where email = $2 and email <> ''))
               order by key_id""",
            customer,
            email,
        )
        key_ids = [row["key_id"] for row in found]
        await save_keys(connection, [erased_key(key_id) for key_id in key_ids])
        await forget_values(connection, lambda value: concerns(value, command))
        events = [
            *(CustomerKeyErased(key_id=key_id, request_id=command.request_id, at=unit.now) for key_id in key_ids),
            CustomerErased(request_id=command.request_id, keys=tuple(key_ids), reason=command.reason, at=unit.now),
        ]
        for version, event in enumerate(events, 1):
            unit.append(event, stream, version, TOPIC, cause)


async def disclose(connection: Connection, events: Sequence[StoredEvent]) -> Mapping[int, str]:
    """What oms.customer-keys has in CustomerKeyIssued and oms.customers has not: the key itself, and by whom it is found."""
    issued = {event.position: decode(event.type, event.data.encode()) for event in events if event.type == _ISSUED}
    rows = await connection.fetch(
        "select key_id, wrapped_key, customer, email, words from customer_keys where key_id = any($1::text[])",
        [event.key_id for event in issued.values()],
    )
    keys = {row["key_id"]: {name: row[name] for name in ("wrapped_key", "customer", "email", "words")} for row in rows}
    return {position: encode(replace(event, **keys[event.key_id])).decode() for position, event in issued.items() if event.key_id in keys}


_ISSUED = type_of(CustomerKeyIssued).name


def _placing(command: Command) -> PlaceOrder | None:
    """The order that a command would place: an order of a channel, or that in a webhook."""
    if isinstance(command, TakeWebhook):
        return command.place
    return command if isinstance(command, PlaceOrder) else None


def personal_data_of(placed: OrderPlaced) -> PersonalData:
    """What an order says of persons."""
    return PersonalData(
        customer=placed.customer,
        bill_to=placed.bill_to,
        ship_to=placed.ship_to,
        pickup=placed.pickup,
        note=placed.note,
        gift=placed.gift,
        risk=placed.risk,
    )


def concerns(value: bytes, erase: EraseCustomer) -> bool:
    """Whether a record that was set aside names the customer to erase, in an order or in a shop's payload within it."""
    return _concerns(value, erase, "")


def _concerns(value: bytes | str, erase: EraseCustomer, channel: str) -> bool:
    try:
        return _names(msgspec.json.decode(value), erase, channel)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def _names(part: Any, erase: EraseCustomer, channel: str) -> bool:
    """`part` is JSON, `channel` the one that an object around it names."""
    if isinstance(part, str):
        return (bool(erase.email) and folded(part) == folded(erase.email or "")) or (part[:1] == "{" and _concerns(part, erase, channel))
    if isinstance(part, list):
        return any(_names(each, erase, channel) for each in cast("list[Any]", part))
    if not isinstance(part, dict):
        return False
    fields = cast("dict[str, Any]", part)
    channel = str(fields.get("channel") or channel)
    customer: dict[str, Any] = fields["customer"] if isinstance(fields.get("customer"), dict) else {}
    ids = {str(customer.get("id")), str(fields.get("customer_id"))}  # an order of ours and of Shopify; WooCommerce's
    if erase.customer_id and channel == erase.channel and erase.customer_id in ids:
        return True
    if isinstance(fields.get("body"), str) and "webhook_id" in fields:
        return _concerns(_payload_of(fields["body"]), erase, channel)
    return any(_names(each, erase, channel) for each in fields.values())


def _payload_of(body: str) -> bytes:
    """What a shop's webhook says; nothing where an operator has put no base64 there."""
    try:
        return b64decode(body)
    except ValueError:
        return b""
