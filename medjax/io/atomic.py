"""Files that appear whole or not at all."""

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
    until then, and after an error, its old content stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too must leave nothing behind
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)
        raise
