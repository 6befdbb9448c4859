"""Memory that was freed is used again without new pages."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from molrl.machine.memory import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    torch.ones(2**22)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    """Return the page faults of 40 tensors of 16 MiB, one after another, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is one of glibc")
def test_freed_memory_is_used_again() -> None:
    """The first tensors need new pages in any case, until one finds the place of an earlier one."""
    assert page_faults("kept") < page_faults("default") / 3
