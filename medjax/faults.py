"""What the machine refuses, in one line each: memory, room on a disk, rights."""

import errno
import os
import re

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


def explained(error: BaseException) -> str | None:
    """What was refused and what to do; None for what is no refusal of the machine's."""
    text = " ".join(str(error).split())
    number, path = _of_a_file(error, text)
    if number:
        what = f"{path}: {os.strerror(number)}"
        if number in FULL:
            return f"{what}; make room there; the same command resumes the run"
        if number in FORBIDDEN:
            return f"{what}; change its rights, or give another path"
        if number in IN_THE_WAY:
            return f"{what}; give a path that is free, or a folder"
        return None
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "Out of memory" in text:
        size = re.search(r"allocating (\d+) bytes", text)
        asked = f" where {int(size[1]) / 1e9:.1f} GB were asked for" if size else ""
        return (
            f"out of memory{asked}; lower plan.batch, plan.patch or plan.width, or raise train.accumulate; "
            "where a run is judged, set eval.tiles=1"
        )
    return None


def _of_a_file(error: BaseException, text: str) -> tuple[int, str]:
    """The system's number of a failure and the path; TensorStore, behind checkpoints, puts them in words."""
    if isinstance(error, OSError):
        return error.errno or 0, str(error.filename or "a file")
    number = re.search(r"os_error_code='(\d+)'", text)
    paths = re.findall(r'local file "([^"]+)"|writing: "([^"]+)"', text)
    return (int(number[1]) if number else 0), next(("".join(p) for p in paths), "a file")
