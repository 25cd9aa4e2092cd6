import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from src.memory import keep_freed_memory
if sys.argv[1:]:
    keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    blocks = [bytearray(8 * 2**20) for _ in range(8)]
step(), step()
before = faults()
step()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_a_step_finds_the_memory_that_the_one_before_it_freed():
    default, kept = (
        int(subprocess.check_output([sys.executable, "-c", FAULTS, *arguments]))
        for arguments in ([], ["keep"])
    )
    assert kept < 100 < default  # pages of 4 KiB; a step has 16,384
