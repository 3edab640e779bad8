"""What may go wrong around a record, and which of it is worth another try."""

import asyncpg
from aiokafka.errors import KafkaError


class StateVersionMismatch(Exception):
    """Another version of this service has started since, and stores its states under another `state_version`: we may not write."""


class TablesMissing(Exception):
    """This version of the service has no tables in the store, not yet or no more. The message says what an operator can do."""


class LostPartition(Exception):
    """Another consumer has moved the checkpoint: this one no longer owns the partition, and has changed nothing."""


class LostLeadership(Exception):
    """Another process may lead by now: this one must acquire the leader's lock again before it publishes anything."""


class EventTooLarge(ValueError):
    """An event does not fit on its topic, so it must not be stored: the relay could never publish it, nor anything behind it."""


class ConsumptionStopped(Exception):
    """Too many records failed for one reason (see `poison`): nothing more is applied until an operator has decided."""


class ClockUntrusted(Exception):
    """This process's clock disagrees with others (see `clock`): nothing is decided, and no deadline met, until they agree again."""


class StoreBehind(Exception):
    """The store lacks events that the topics have: it was restored from a backup. It may not lead or decide until it has them again."""


class WrongInstallationKey(Exception):
    """OMS_PERSONAL_DATA_KEY is not the key that the store's customer keys were encrypted with: nothing can be sealed or opened."""

    def __str__(self) -> str:
        return (
            "OMS_PERSONAL_DATA_KEY is not the key that customers' keys in the store were encrypted with: set the one that the "
            "installation began with"
        )


class KeyNotArrived(Exception):
    """A customer's key is not in the store yet: it lies on oms.customer-keys, and this process has not read so far."""


def check_store_not_behind(service: str, stored: int, published: int) -> None:
    """Raise StoreBehind when the highest published position is above the store's: its next events would get positions that are taken."""
    if published > stored:
        raise StoreBehind(
            f"the store ends at position {stored}, but position {published} of {service} is published: the database was restored from a "
            f"backup, or is another one. Bring the missing events back with `python -m oms_{service} recover`"
        )


RETRYABLE_ERRORS: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    KafkaError,
    asyncpg.PostgresConnectionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.exceptions.PostgresSystemError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.SyntaxOrAccessError,
    asyncpg.InvalidCachedStatementError,
    StateVersionMismatch,
    StoreBehind,
    TablesMissing,
    ClockUntrusted,
    KeyNotArrived,
    WrongInstallationKey,
)
"""Faults of the environment, not of a record. They are retried for as long as they last, and never make a dead letter.

A schema or states of another version are among them: a process meets them while a rolling upgrade replaces it.
"""


def is_retryable(error: BaseException) -> bool:
    """Whether to try again. asyncpg reports a statement's wrong arguments as an interface error too, but that is the record's fault."""
    return isinstance(error, RETRYABLE_ERRORS) and not isinstance(error, ValueError)
