import os
import subprocess
import sys

import pytest

from medjax.hugepages import environment

ASK = "always [madvise] never\n"
SET = "glibc.malloc.hugetlb=1"


@pytest.mark.parametrize(
    ("given", "kernel", "library", "wanted"),
    [
        ({}, ASK, "glibc 2.36", SET),
        ({"GLIBC_TUNABLES": "glibc.cpu.x=1"}, ASK, "glibc 2.35", f"glibc.cpu.x=1:{SET}"),
        ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, ASK, "glibc 2.36", None),
        ({"GLIBC_TUNABLES": SET}, ASK, "glibc 2.36", None),
        ({}, "[always] madvise never", "glibc 2.36", None),
        ({}, "always madvise [never]", "glibc 2.36", None),
        ({}, ASK, "glibc 2.31", None),
        ({}, ASK, "", None),
        ({}, ASK, "musl 1.2", None),
    ],
)
def test_the_setting_is_added_where_it_helps(given, kernel, library, wanted):
    found = environment({"HOME": "/", **given}, kernel, library)
    assert found == (wanted and {"HOME": "/", "GLIBC_TUNABLES": wanted})


def test_a_restarted_process_is_the_same_process_with_the_same_arguments():
    """It prints its number before and after; where the kernel offers no such pages, once."""
    code = (
        "import os, sys; from medjax import hugepages; print(os.getpid());"
        "hugepages.restart(); print(os.environ.get('GLIBC_TUNABLES'), sys.argv[1:])"
    )
    given = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    command = [sys.executable, "-c", code, "--a", "b c"]
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
    *numbers, last = done.stdout.splitlines()
    assert len(set(numbers)) == 1
    assert last == f"{SET if len(numbers) == 2 else None} ['--a', 'b c']"
