"""Memory that is kept is there for the next allocation; afterwards it goes back."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import resource
import numpy as np
from aerialseg import memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(2**23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

usual = faults()
with memory.keep_freed_memory():
    faults()
    kept, held = faults(), resident()
print(usual, kept, faults(), held - resident())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_kept_memory_is_not_asked_for_again_and_goes_back_in_the_end() -> None:
    """By the pages, of whatever size, that the system has to fill for twenty arrays of 64 MiB after one another."""
    told = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True).stdout
    usual, kept, after, given_back_mib = map(float, told.split())
    assert kept < 0.2 * usual
    assert after > 0.8 * usual
    assert given_back_mib > 50
