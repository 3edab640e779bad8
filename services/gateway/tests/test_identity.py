"""Roles are sets of scopes, and every scope is somebody's."""

import pytest
from oms_contracts.operations import OPERATIONS, operation_of
from oms_gateway.identity import ADMIN_SCOPES, OPERATION_SCOPES, READ_SCOPES, ROLES, SCOPES, Identity, scopes_of


def test_every_scope_is_in_a_role_and_every_role_is_made_of_scopes() -> None:
    assert frozenset[str]().union(*ROLES.values()) == SCOPES
    assert ROLES["operator"] | ADMIN_SCOPES == ROLES["admin"]


def test_a_viewer_changes_nothing_and_opens_no_personal_data() -> None:
    assert ROLES["viewer"] < READ_SCOPES
    assert not ROLES["viewer"] & (OPERATION_SCOPES | {"customers:read"})


def test_what_an_identity_may_ask_for_is_decided_by_its_scopes() -> None:
    ada = Identity(actor="user:ada", scopes=scopes_of(frozenset({"warehouse"})))
    allowed = {operation.name for operation in OPERATIONS if ada.may_ask_for(operation)}
    assert {"accept-fulfillment", "receive-stock", "inspect-return"} < allowed
    assert "cancel-order" not in allowed
    assert ada.may("orders:read")
    assert not ada.may_ask_for(operation_of("erase-customer"))


def test_roles_add_up() -> None:
    assert scopes_of(frozenset({"warehouse", "service-desk"})) == ROLES["warehouse"] | ROLES["service-desk"]
    assert scopes_of(frozenset()) == frozenset()
    with pytest.raises(KeyError):
        scopes_of(frozenset({"king"}))
