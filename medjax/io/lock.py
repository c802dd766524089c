"""One run in a work folder at a time."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medjax.errors import UserError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder, made where it is absent, against other runs on all machines that share it.

    The system lets go where a run dies, so nothing is left to be cleared by hand. On a file system without
    locks nobody is kept out. A folder that was made for it and is empty at the end is removed. Errors:
    another run holds it.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    with path.open("a+") as file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"{folder}: is in use by {file.read() or 'another run'}; wait for it, or give another "
                "--workdir"
            ) from None
        except OSError:
            pass  # no locks here
        if not path.is_file() or path.stat().st_ino != os.fstat(file.fileno()).st_ino:
            raise UserError(f"{folder}: another run in it has just ended; start again")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            with suppress(PermissionError):  # Windows removes no open file
                path.unlink(missing_ok=True)
            if made and not any(folder.iterdir()):
                folder.rmdir()
