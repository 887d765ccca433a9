import subprocess
import sys

import pytest

# Take and give back 64 MiB again and again; every page that is new to the process is a fault.
PROGRAM = """
import resource, sys
import numpy as np
from vtrain.run.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
np.ones(1 << 26, dtype=np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(1 << 26, dtype=np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    """Return the page faults of taking the same memory twenty times."""
    command = [sys.executable, "-c", PROGRAM, mode]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's choice")
def test_freed_memory_is_taken_again_without_asking_the_system() -> None:
    assert faults("keep") < 100 < faults("leave")
