"""One run at a time in a folder; the system lifts the lock even if its process is killed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparse3d.errors import UserError


class InUse(UserError):
    """Another process is at work there."""


@contextmanager
def file_lock(path: Path, where: str) -> Iterator[None]:
    """Holds the lock of a file, which is made where it is missing and says who holds it.

    Args:
        path: The file.
        where: What another run is writing to and what to do, for the message.

    Raises:
        InUse: another process holds it; says which.
    """
    with open(path, "a+b") as file:
        if not _try_lock(file.fileno()):
            file.seek(0)
            holder = file.read(200).decode(errors="replace").strip("\0 \n")
            raise InUse(f"another sparse3d run {f'({holder}) ' if holder else ''}is writing to {where}")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        file.flush()
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: go on without
        return True
    return True
