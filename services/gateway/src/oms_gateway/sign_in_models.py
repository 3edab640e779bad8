"""What the HTTP API takes and answers about who may come in. The names of the classes are those of the schemas in the OpenAPI document."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from oms_gateway.identity import Identity
from oms_gateway.passwords import MAX_CHARACTERS, MIN_CHARACTERS
from oms_gateway.signin import NAME
from oms_gateway.store import AuditEntry, Key, User

MAX_GRACE_SECONDS = 30 * 86_400

Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Name = Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$")]
Texts = Annotated[frozenset[Text], Field(max_length=200)]
NewPassword = Annotated[SecretStr, Field(min_length=MIN_CHARACTERS, max_length=MAX_CHARACTERS)]
Role = Literal["viewer", "service-desk", "warehouse", "operator", "admin"]
Roles = frozenset[Role]


def _example(fields: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [fields]})


_ADA: dict[str, Any] = {
    "name": "ada",
    "display_name": "Ada Lovelace",
    "roles": ["warehouse"],
    "locations": ["BER-1"],
    "provider": None,
    "has_password": True,
    "created_at": "2030-01-01T09:00:00Z",
    "disabled_at": None,
}
_TILL: dict[str, Any] = {
    "id": "0123456789abcdef",
    "name": "till-7",
    "scopes": ["orders:place", "orders:read"],
    "channel": "shop-berlin",
    "locations": None,
    "created_at": "2030-01-01T09:00:00Z",
    "created_by": "user:ada",
    "expires_at": "2031-01-01T00:00:00Z",
    "last_used_at": None,
    "revoked_at": None,
    "replaces": None,
}


class Credentials(BaseModel):
    """A name and its password."""

    model_config = _example({"name": "ada", "password": "correct horse battery staple"})

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    password: Annotated[SecretStr, Field(min_length=1, max_length=MAX_CHARACTERS)]


class Me(BaseModel):
    """Who asks. `channel` and `locations` null: all. `csrf_token` is what the session's changes need as `X-CSRF-Token`; null for a key."""

    model_config = _example(
        {"actor": "user:ada", "scopes": ["orders:read"], "channel": None, "locations": ["BER-1"], "csrf_token": "q83vASNFZ4k"}
    )

    actor: str
    scopes: list[str]
    channel: str | None
    locations: list[str] | None
    csrf_token: str | None

    @classmethod
    def of(cls, identity: Identity, csrf_token: str | None) -> Self:
        """An identity as the API shows it."""
        return cls(
            actor=identity.actor,
            scopes=sorted(identity.scopes),
            channel=identity.channel,
            locations=in_order(identity.locations),
            csrf_token=csrf_token,
        )


class SessionBegun(Me):
    """Who has signed in, and until when at the latest."""

    model_config = _example(
        {
            "actor": "user:ada",
            "scopes": ["orders:read"],
            "channel": None,
            "locations": ["BER-1"],
            "csrf_token": "q83vASNFZ4k",
            "expires_at": "2030-01-01T21:00:00Z",
        }
    )

    expires_at: datetime


class UserItem(BaseModel):
    """A user. `locations` null: all. One with `provider` signs in at that OpenID provider, which decides on the roles."""

    model_config = _example(_ADA)

    name: str
    display_name: str
    roles: list[str]
    locations: list[str] | None
    provider: str | None
    has_password: bool
    created_at: datetime
    disabled_at: datetime | None

    @classmethod
    def of(cls, user: User) -> Self:
        """A user as the API shows it."""
        return cls(
            name=user.name,
            display_name=user.display_name,
            roles=sorted(user.roles),
            locations=in_order(user.locations),
            provider=user.oidc_issuer,
            has_password=user.password_hash is not None,
            created_at=user.created_at,
            disabled_at=user.disabled_at,
        )


class UserDetail(UserItem):
    """A user, and how it stands with their sign-in: `failures` in a row, until when the name is locked, and how many sessions there are."""

    model_config = _example(_ADA | {"failures": 5, "locked_until": "2030-01-01T09:00:30Z", "sessions": 1})

    failures: int
    locked_until: datetime | None
    sessions: int


class NewUser(BaseModel):
    """A user to make. Events have the name for ever."""

    model_config = _example(
        {"name": "ada", "display_name": "Ada Lovelace", "roles": ["warehouse"], "locations": ["BER-1"], "password": "correct horse battery"}
    )

    name: Name
    display_name: Text
    roles: Roles
    locations: Texts | None = None
    password: NewPassword


class UserChange(BaseModel):
    """What to change of a user; a field that is left out stays as it is. `locations` null: all."""

    model_config = _example({"roles": ["viewer", "warehouse"], "disabled": False})

    display_name: Text | None = None
    roles: Roles | None = None
    locations: Texts | None = None
    disabled: bool | None = None


class PasswordChange(BaseModel):
    """A user's new password."""

    model_config = _example({"password": "correct horse battery staple"})

    password: NewPassword


class OwnPasswordChange(BaseModel):
    """The password that somebody has, and the one that they want."""

    model_config = _example({"old_password": "correct horse battery staple", "new_password": "paper tiger origami lessons"})

    old_password: Annotated[SecretStr, Field(min_length=1, max_length=MAX_CHARACTERS)]
    new_password: NewPassword


class LockLifted(BaseModel):
    """How a name was locked: after so many `failures` in a row, and until when; null: it was not locked."""

    model_config = _example({"failures": 7, "locked_until": "2030-01-01T09:02:00Z"})

    failures: int
    locked_until: datetime | None


class SessionsEnded(BaseModel):
    """How many sessions have ended."""

    model_config = _example({"sessions": 2})

    sessions: int


class KeyItem(BaseModel):
    """A key, without its secret. `last_used_at` is exact to the minute."""

    model_config = _example(_TILL)

    id: str
    name: str
    scopes: list[str]
    channel: str | None
    locations: list[str] | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    replaces: str | None

    @classmethod
    def of(cls, key: Key) -> Self:
        """A key as the API shows it."""
        return cls(
            id=key.id,
            name=key.name,
            scopes=sorted(key.scopes),
            channel=key.channel,
            locations=in_order(key.locations),
            created_at=key.created_at,
            created_by=key.created_by,
            expires_at=key.expires_at,
            last_used_at=key.last_used_at,
            revoked_at=key.revoked_at,
            replaces=key.replaces,
        )


class KeyMade(KeyItem):
    """A key that was just made. `key` is shown now and never again."""

    model_config = _example(_TILL | {"key": "oms_0123456789abcdef_q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k"})

    key: str

    @classmethod
    def shown(cls, key: Key, text: str) -> Self:
        """A key with its text."""
        return cls(**KeyItem.of(key).model_dump(), key=text)


class NewKey(BaseModel):
    """A key to make. `channel` and `locations` null: all; `expires_at` null: never."""

    model_config = _example(
        {"name": "till-7", "scopes": ["orders:place", "orders:read"], "channel": "shop-berlin", "expires_at": "2030-01-01T00:00:00Z"}
    )

    name: Name
    scopes: Annotated[Texts, Field(min_length=1)]
    channel: Text | None = None
    locations: Texts | None = None
    expires_at: AwareDatetime | None = None


class KeyRotation(BaseModel):
    """How to rotate a key. The old one is valid for `grace_seconds` more; without `expires_at` the new one as long as the old one was."""

    model_config = _example({"grace_seconds": 3600})

    expires_at: AwareDatetime | None = None
    grace_seconds: Annotated[int, Field(ge=0, le=MAX_GRACE_SECONDS)] | None = None


class AuditItem(BaseModel):
    """What `actor` did, when, and about whom or what."""

    model_config = _example(
        {"at": "2030-01-01T09:00:00Z", "actor": "user:ada", "what": "signed-in", "about": "user:ada", "detail": {"how": "password"}}
    )

    at: datetime
    actor: str
    what: str
    about: str | None
    detail: dict[str, Any]

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        """An entry as the API shows it."""
        return cls(at=entry.at, actor=entry.actor, what=entry.what, about=entry.about, detail=entry.detail)


def in_order(texts: frozenset[str] | None) -> list[str] | None:
    """A set as a list, None for all."""
    return None if texts is None else sorted(texts)
