"""Who asks, and what they may ask for. Pure.

A scope names a kind of thing and what may be done with it: `orders:read`. A role is a set of scopes with a name that people know. A user
has roles; a key has scopes of its own, and may be limited to one channel's orders or to some locations.
"""

from dataclasses import dataclass

from oms_contracts.operations import OPERATIONS, Operation

READ_SCOPES = frozenset(
    f"{things}:read"
    for things in ("orders", "stock", "products", "customers", "payments", "returns", "fulfillments", "dead-letters", "audits")
)
ADMIN_SCOPES = frozenset({"users:admin", "keys:admin", "channels:admin"})
OPERATION_SCOPES = frozenset(operation.scope for operation in OPERATIONS)
SCOPES = READ_SCOPES | ADMIN_SCOPES | OPERATION_SCOPES
"""Every scope."""

_SEES_WORK = frozenset({"orders:read", "stock:read", "products:read", "returns:read", "fulfillments:read"})
_VIEWS = READ_SCOPES - {"customers:read", "dead-letters:read"}

ROLES: dict[str, frozenset[str]] = {
    "viewer": _VIEWS,
    "service-desk": _VIEWS | {"customers:read", "orders:place", "orders:change", "returns:request", "customers:erase"},
    "warehouse": _SEES_WORK | {"fulfillments:change", "stock:change", "returns:receive", "packages:scan"},
    "operator": READ_SCOPES | OPERATION_SCOPES,
    "admin": SCOPES,
}
"""The roles, each a set of scopes. An operator may do all that concerns orders; an admin also decides who may sign in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who sent a request. `actor` is what events name: `user:ada`, `key:till-7`.

    `channel` is the one whose orders alone a key places, sees and changes; None: those of all channels. `locations` are those that a user
    or a key of a warehouse works for; None: all.
    """

    actor: str
    scopes: frozenset[str]
    channel: str | None = None
    locations: frozenset[str] | None = None

    def may(self, scope: str) -> bool:
        """Whether the identity has a scope."""
        return scope in self.scopes

    def may_ask_for(self, operation: Operation) -> bool:
        """Whether the identity has the scope of an operation."""
        return operation.scope in self.scopes


def scopes_of(roles: frozenset[str]) -> frozenset[str]:
    """The scopes of all `roles` together. Raises KeyError for a role that does not exist."""
    return frozenset[str]().union(*(ROLES[role] for role in roles))
