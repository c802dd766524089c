"""Large arrays on pages of 2 MB: a process of medjax starts itself once more with the C library told so.

XLA:CPU takes the working memory of each step from the C library and gives it back. On pages of 4 KB the
kernel then clears and maps it in small pieces each time: a fifth to a quarter of a train step.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

SETTING = "glibc.malloc.hugetlb"
KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def environment(given: Mapping[str, str], kernel: str, library: str) -> dict[str, str] | None:
    """The environment with the setting, or None where it is there, does nothing or is not understood.

    kernel: what `KERNEL` holds ("always [madvise] never": programs must ask); library: the C library's own
    name and version. A value that the user gave (0: off) stays.
    """
    name, _, version = library.partition(" ")
    numbers = version.split(".")
    known = name == "glibc" and all(n.isdigit() for n in numbers)
    if not known or tuple(map(int, numbers)) < (2, 35) or "[madvise]" not in kernel:
        return None
    others = given.get("GLIBC_TUNABLES", "")
    if SETTING in others:
        return None
    return {**given, "GLIBC_TUNABLES": ":".join(filter(None, [others, f"{SETTING}=1"]))}


def restart() -> None:
    """Replaces this process by itself under `environment`; to be called before any heavy import.

    The C library reads the setting when a process starts, and only then. Process number, arguments and
    streams stay. Returns where there is nothing to gain.
    """
    if sys.platform != "linux" or not KERNEL.is_file():
        return
    library = os.confstr("CS_GNU_LIBC_VERSION") or ""
    wanted = environment(os.environ, KERNEL.read_text("ascii"), library)
    if wanted is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, sys.orig_argv, wanted)
