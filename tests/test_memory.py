import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = """
import resource, sys
from src.memory import keep_freed_memory
if sys.argv[1:]:
    keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    blocks = [bytearray(40 * 2**20) for _ in range(8)]
step(), step()
before = faults()
step()
print(faults() - before)
"""


HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
@pytest.mark.skipif(HUGE.exists() and "[always]" in HUGE.read_text(), reason="pages are huge")
def test_a_step_finds_the_memory_that_the_one_before_it_freed():
    tuned = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(tuned)}
    default, kept = (
        int(subprocess.check_output([sys.executable, "-c", FAULTS, *arguments], env=environment))
        for arguments in ([], ["keep"])
    )
    assert kept < default / 10
