"""Parties: the channels, warehouses and carriers that have a user of the broker, with topics and rights of their own.

The broker is where they are kept: a party is there while it has topics, and may connect while it has a user.
"""

import secrets
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from oms_contracts.catalogue import party_topics, topics_read_by
from oms_contracts.parties import group_prefix, name_objection, party_of, user_of

from oms_provision.broker import (
    party_rights,
    present_rights,
    provision_topics,
    remove_password,
    rights_of,
    scram_users,
    set_passwords,
    set_rights,
    topics_of_parties,
    wait_until,
)
from oms_provision.errors import ProvisionError, UsageError

PASSWORD_BYTES = 24
MIN_PASSWORD_CHARACTERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """A party as the broker knows it. It writes `topics`, reads `reads` in groups that begin with `group_prefix`."""

    kind: str
    name: str
    user: str
    has_user: bool
    topics: tuple[str, ...]
    reads: tuple[str, ...]
    group_prefix: str


def make_password() -> str:
    """A password for a party."""
    return secrets.token_urlsafe(PASSWORD_BYTES)


def find(admin: Any, kind: str) -> list[Party]:
    """The parties of a kind, by name: those that have a user, and those that have topics from when they had one."""
    users = {party[1] for user in scram_users(admin) if (party := party_of(user)) is not None and party[0] == kind}
    topics: defaultdict[str, list[str]] = defaultdict(list)
    for topic in topics_of_parties(admin):
        if topic.parties == kind:
            topics[topic.party].append(topic.name)
    return [_party(kind, name, has_user=name in users, topics=topics[name]) for name in sorted(users | topics.keys())]


def add(admin: Any, kind: str, name: str, password: str | None) -> tuple[Party, str | None]:
    """Make a party's topics, user and rights, as far as they are missing. Returns the party, and its password where it is a new one.

    With a `password` the user has that from now on. Without one, a user that exists keeps its password, and a new one gets one. Raises
    UsageError for a name that topics cannot bear or a password that is too short, ProvisionError if the broker refuses.
    """
    if objection := name_objection(name):
        raise UsageError(f"{kind} {name!r}: {objection}.")
    if password is not None and len(password) < MIN_PASSWORD_CHARACTERS:
        raise UsageError(f"a password has at least {MIN_PASSWORD_CHARACTERS} characters. Without one given, a random one is made.")
    present = {party.name: party for party in find(admin, kind)}
    alike = [other for other in present if other != name and other.replace(".", "_") == name.replace(".", "_")]
    if alike:
        raise UsageError(f"{kind} {name}: Kafka takes its topics for those of {alike[0]}, because it does not tell dots from _ there.")
    user, topics = user_of(kind, name), party_topics(kind, name)
    provision_topics(admin, topics)
    if password is None and not (name in present and present[name].has_user):
        password = make_password()
    wanted = set(party_rights(user))
    set_rights(admin, wanted, rights_of(user, present_rights(admin)))
    if password is not None:
        set_passwords(admin, {user: password})
    wait_until(lambda: user in scram_users(admin) and wanted <= present_rights(admin), f"the broker does not know {user} yet")
    return _party(kind, name, has_user=True, topics=[topic.name for topic in topics]), password


def remove(admin: Any, kind: str, name: str) -> Party:
    """Take a party's user and rights. Its topics stay: what is unread there is still taken.

    Raises ProvisionError if there is no such party, or if the broker refuses.
    """
    found = [party for party in find(admin, kind) if party.name == name]
    if not found or not found[0].has_user:
        raise ProvisionError(f"there is no user of {kind} {name}. `oms {kind} list` shows those that there are.")
    user = user_of(kind, name)
    set_rights(admin, set(), rights_of(user, present_rights(admin)))
    remove_password(admin, user)
    wait_until(lambda: user not in scram_users(admin), f"the broker still knows {user}")
    return _party(kind, name, has_user=False, topics=list(found[0].topics))


def _party(kind: str, name: str, *, has_user: bool, topics: list[str]) -> Party:
    user = user_of(kind, name)
    return Party(
        kind=kind,
        name=name,
        user=user,
        has_user=has_user,
        topics=tuple(sorted(topics)),
        reads=tuple(topic.name for topic in topics_read_by(kind)),
        group_prefix=group_prefix(user),
    )
