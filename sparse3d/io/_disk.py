"""What goes wrong with disks, in words that say what to do."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparse3d.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
DISK_ERRORS = (*FULL, *FORBIDDEN)


@contextmanager
def telling(folder: Path, kept: str, otherwise: str) -> Iterator[None]:
    """Turns errors of the disk in the block into a `UserError`.

    Args:
        folder: What the block writes to.
        kept: What is left when there is no space, as `finished stages are kept`.
        otherwise: The next step besides freeing space, as `choose another folder with -o`.
    """
    try:
        yield
    except OSError as error:
        where = f"{folder} ({error.filename})" if error.filename else str(folder)
        if error.errno in FULL:
            raise UserError(
                f"no space left for {where}: {error.strerror}; {kept}. Free some and run it again, or {otherwise}"
            ) from error
        if error.errno in FORBIDDEN:
            raise UserError(
                f"cannot write to {where}: {error.strerror}; {kept}. Change its permissions, or {otherwise}"
            ) from error
        raise


def check_space(folder: Path, needed: int, otherwise: str) -> None:
    """Stops before work that cannot be stored.

    Raises:
        UserError: the disk of `folder`, which exists, has less than `needed` bytes.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"about {needed / 1e6:.0f} MB are needed in {folder}, and {free / 1e6:.0f} MB are free. "
            f"Free some, or {otherwise}"
        )
