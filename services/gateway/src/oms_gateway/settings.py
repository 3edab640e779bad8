"""The gateway's settings."""

from datetime import timedelta
from typing import Annotated, Self

from oms_kafka.settings import KafkaSettings
from oms_runtime.settings import ApiSettings, OperationsSettings, PositiveDuration, QueryTokenSettings, Token
from pydantic import AfterValidator, Field, HttpUrl, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from oms_gateway.identity import ROLES
from oms_gateway.shops import Shop

MAX_WAIT_SECONDS = 30
"""The longest that a request may wait for its outcome."""
BESIDE_WAIT_SECONDS = 10
"""What a request that waits may need beside: for its body, and for the broker."""
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "[::1]", "localhost"})


def _check_url(text: str) -> str:
    url = HttpUrl(text)
    if url.scheme != "https" and url.host not in LOOPBACK_HOSTS:
        raise ValueError("must be an https URL")
    if url.query or url.fragment:
        raise ValueError("must have no query and no fragment")
    return text


def _check_roles(roles: dict[str, str]) -> dict[str, str]:
    if unknown := sorted({*roles.values()} - ROLES.keys()):
        raise ValueError(f"there is no role {unknown[0]!r}; there are {', '.join(ROLES)}")
    return roles


SecureUrl = Annotated[str, AfterValidator(_check_url)]
"""An https URL; http on this machine alone."""


class SignInSettings(BaseSettings):
    """The variables about who may come in, all beginning with `OMS_`."""

    model_config = SettingsConfigDict(env_prefix="OMS_", extra="ignore")

    session_idle: PositiveDuration = timedelta(hours=1)
    """A session that is not used for longer has ended."""
    session_lifetime: PositiveDuration = timedelta(hours=12)
    """A session ends after it, however much it is used."""
    session_cookie_secure: bool = True
    """Browsers send the cookie over https alone, and take it from no other host. False only where people reach the gateway by http."""
    sign_in_failures: int = Field(default=5, ge=1)
    """So many failed sign-ins of one user in a row lock it; sessions that it has go on."""
    sign_in_failures_address: int = Field(default=30, ge=1)
    """So many failed sign-ins from one address in a row lock the address out. An IPv6 address stands for its /64."""
    sign_in_lock: PositiveDuration = timedelta(seconds=30)
    """The first lock. It doubles with each further failure."""
    sign_in_lock_longest: PositiveDuration = timedelta(minutes=15)
    sign_in_failures_forgotten: PositiveDuration = timedelta(days=1)
    """Failures count no more when none was added for as long."""
    audit_trail_kept: timedelta = Field(default=timedelta(days=400), ge=timedelta(days=1))
    """An entry of the audit trail is removed after it."""
    password_hashes_at_once: int = Field(default=2, ge=1)
    """Passwords that are hashed at the same time: each takes a core, and 19 MiB."""
    password_hashes_waiting: int = Field(default=50, ge=0)
    """Passwords that wait to be hashed. One more gets 503."""
    key_rotation_grace: timedelta = Field(default=timedelta(days=1), ge=timedelta(0))
    """A key that was rotated stays valid for as long, unless the rotation says otherwise."""
    key_cache: PositiveDuration = timedelta(seconds=5)
    """A process knows a key for as long before it asks the database again: a revocation takes effect everywhere within it."""
    oidc_issuer: SecureUrl | None = None
    """The OpenID provider's issuer, exactly as its tokens name it. Without one nobody signs in that way."""
    oidc_client_id: str | None = None
    oidc_client_secret: SecretStr | None = None
    """None for a public client: the authorization code is bound to the browser by PKCE either way."""
    oidc_redirect_url: SecureUrl | None = None
    """The gateway's `/api/v1/oidc/callback` as browsers reach it, and as the provider has it registered."""
    oidc_scopes: str = "openid profile"
    oidc_role_claim: str = "groups"
    """The ID token's claim that decides on roles: a text, or a list of texts."""
    oidc_roles: Annotated[dict[str, str], AfterValidator(_check_roles)] = Field(default={})
    """A role by value of the claim, as JSON: {"oms-admins": "admin"}. A person without any such value may not come in."""

    @model_validator(mode="after")
    def _check_oidc(self) -> Self:
        needed = {"OMS_OIDC_CLIENT_ID": self.oidc_client_id, "OMS_OIDC_REDIRECT_URL": self.oidc_redirect_url}
        if self.oidc_issuer is not None and (missing := [name for name, value in needed.items() if not value]):
            raise ValueError(f"{', '.join(missing)} must be set beside OMS_OIDC_ISSUER")
        return self


class StoreSettings(OperationsSettings):
    """What reaches the gateway's database. Variables begin with `OMS_`."""

    database_url: SecretStr


class Settings(ApiSettings, KafkaSettings, QueryTokenSettings, StoreSettings, SignInSettings):
    """All of the gateway's. Variables begin with `OMS_`."""

    http_request_timeout_seconds: float = Field(default=60, ge=MAX_WAIT_SECONDS + BESIDE_WAIT_SECONDS)
    """For a whole request, of which an outcome is waited for up to MAX_WAIT_SECONDS."""
    query_url: str = "http://127.0.0.1:8006"
    """Where projection's query API is."""
    shops: dict[str, Shop] = Field(default={})
    """The shops that send webhooks, by the channel that they sell through."""
    gateway_key: Token | None = None
    """A key of the installation's own programs, which may do what an operator may. It is in no database. None: there is none."""
    requests_per_second: float = Field(default=1_000, gt=0)
    """In the long run, of one address and of one identity."""
    requests_at_once: int = Field(default=2_000, ge=1)
    """So many of them may come at the same moment."""
