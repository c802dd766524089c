"""Files that appear whole or not at all."""

import glob
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to `path` at the end and removed on any error.

    The temporary keeps all suffixes of `path`, for writers that look at them, and lies in the same
    folder (made if absent), so that the renaming is one step of the file system. What is written
    may also be a folder, where `path` does not exist yet or is empty. An existing file is replaced;
    until then, and after an error, its old content stays. What a process that was killed left of the
    same file is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".*.{glob.escape(path.name)}"):
        if _abandoned(left):
            _remove(left)
    own = f"{uuid.getnode():x}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    temporary = path.with_name(f".{own}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too must leave nothing behind
        _remove(temporary)
        raise


def _abandoned(path: Path) -> bool:
    """Whether a temporary was made by a process of this machine that is no more."""
    parts = path.name[1:].split(".")[0].split("-")
    if len(parts) != 3 or parts[0] != f"{uuid.getnode():x}" or os.name == "nt":
        return False
    try:
        os.kill(int(parts[1]), 0)  # asks whether it is there
    except ProcessLookupError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
