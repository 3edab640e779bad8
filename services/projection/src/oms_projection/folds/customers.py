"""oms.customer-keys: the keys that open what orders say of persons."""

from oms_contracts.customers import CustomerKeyErased, CustomerKeyIssued
from oms_contracts.envelope import Envelope

from oms_projection.changes import Changes
from oms_projection.tables import CUSTOMERS


def fold(changes: Changes, event: object, envelope: Envelope) -> None:
    """Add one event to `changes`."""
    match event:
        case CustomerKeyIssued(key_id=key_id, wrapped_key=wrapped_key, customer=customer, email=email, words=words):
            changes.set(CUSTOMERS, key_id, wrapped_key=wrapped_key, customer=customer, email=email, words=words)
        case CustomerKeyErased(key_id=key_id):
            changes.set(CUSTOMERS, key_id, wrapped_key="", customer="", email="", words=())
        case _:
            pass
