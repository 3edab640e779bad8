"""What can go wrong, in words that a person can act on."""

import errno
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from oms_provision.errors import ProvisionError


class StackError(Exception):
    """The stack cannot do what was asked. The text names the problem and the remedy."""


@contextmanager
def as_stack_errors(folder: Path) -> Generator[None]:
    """Raise StackError where provisioning fails, or where `folder` cannot be written: a full disk, a folder of another user."""
    try:
        yield
    except ProvisionError as error:
        raise StackError(str(error)) from error
    except OSError as error:
        place = error.filename or folder
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StackError(
                f"no space left at {place} ({error.strerror}). Free some, or set OMS_STACK_DATA to a folder on another disk."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise StackError(f"cannot write {place}: {error.strerror}. Set OMS_STACK_DATA to a folder you may write to.") from error
        raise
