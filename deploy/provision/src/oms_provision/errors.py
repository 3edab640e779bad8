"""What can go wrong. Each text names the problem and what to do next; each class has the exit code of the command."""

from typing import ClassVar


class ProvisionError(Exception):
    """A server or the file system refused what was asked."""

    exit_code: ClassVar[int] = 1


class UsageError(ProvisionError):
    """An argument or an environment variable is missing or malformed. The same call fails again."""

    exit_code: ClassVar[int] = 2


class UnreachableError(ProvisionError):
    """A server did not respond in time. The same call may succeed later."""

    exit_code: ClassVar[int] = 3
