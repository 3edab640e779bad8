"""The errors of this library. Each text is a sentence for people."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from oms_kafka.settings import KafkaSettings

_NOT_ALLOWED = (TopicAuthorizationFailedError, GroupAuthorizationFailedError, UnknownTopicOrPartitionError)


class ClientError(Exception):
    """The base of all errors of this library."""


class Unreachable(ClientError):
    """A server does not answer, cannot do its work now, or is not the kind of server it was taken for."""


class BrokerUnreachable(Unreachable):
    """The broker does not answer. It is not known whether it has what was being published."""


class QueryApiUnreachable(Unreachable):
    """The query API does not answer, or another program answers at its URL."""


class NotFound(ClientError):
    """The query API does not know what was asked for, or does not know it yet: it follows the topics with a delay."""


class NotAllowed(ClientError):
    """The broker has no such topic or group, or does not allow this broker user to use it; or a server does not take the credential."""


class Refused(ClientError):
    """What was asked for cannot be done as things stand; `reasons` says why, `answer` is all that the server says of it."""

    def __init__(self, title: str, *reasons: str, answer: Mapping[str, Any]) -> None:
        super().__init__("; ".join((title, *reasons)))
        self.reasons = reasons or (title,)
        self.answer = answer


class Invalid(ClientError):
    """A message or a parameter is not valid. `reasons` has one text for every fault, each naming the field."""

    def __init__(self, what: str, *reasons: str) -> None:
        super().__init__("; ".join((what, *reasons)))
        self.what = what
        self.reasons = reasons


@contextmanager
def broker_errors(settings: KafkaSettings) -> Generator[None]:
    """Turn aiokafka's errors and timeouts into those of this library: aiokafka's texts are written for programmers."""
    try:
        yield
    except MessageSizeTooLargeError as error:
        raise Invalid("the message is larger than its topic accepts") from error
    except _NOT_ALLOWED as error:
        user = settings.kafka_username or "a client without a name"
        what = ", ".join(map(str, error.args)) or type(error).__name__
        raise NotAllowed(f"the broker has no such topic or group, or does not allow {user} to use it: {what}") from error
    except (KafkaError, ConnectionError, TimeoutError) as error:
        address, reason = settings.kafka_bootstrap_servers, type(error).__name__
        certificate = ", or one of the two does not accept the other's certificate" if settings.uses_tls else ""
        raise BrokerUnreachable(f"the broker at {address} does not answer ({reason}){certificate}") from error
