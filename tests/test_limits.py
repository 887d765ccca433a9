import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.sharing import group_of_one_core
from vtrain import limits
from vtrain.limits import cores_allowed, memory_allowed, memory_left

Plant = Callable[[str, dict[str, str]], None]


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Make a tree of groups: what /proc/self/cgroup says, and the files of the groups."""
    for variable in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(variable, raising=False)

    def make(membership: str, files: dict[str, str]) -> None:
        (tmp_path / "membership").write_text(membership)
        for name, content in files.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    monkeypatch.setattr(limits, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(limits, "MEMBERSHIP", tmp_path / "membership")
    return make


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2.5),
        # A service or job: its own group, and one above it that allows less.
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "300000 100000"}, 3),
        # A container that sees the host's path, but mounts its own group as the root.
        ("0::/docker/4f1\n", {"cpu.max": "50000 100000"}, 0.5),
        ("4:cpu,cpuacct:/\n", {"cpu,cpuacct/cpu.cfs_quota_us": "-1"}, None),
        (
            "7:memory:/x\n4:cpu,cpuacct:/kubepods/pod1\n0::/\n",
            {
                "cpu,cpuacct/kubepods/pod1/cpu.cfs_quota_us": "150000\n",
                "cpu,cpuacct/kubepods/pod1/cpu.cfs_period_us": "100000\n",
            },
            1.5,
        ),
        (
            "1:cpu:/\n0::/\n",
            {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"},
            2,
        ),
        # Both versions at once: the one tree of version 2 lies beside the others.
        ("1:cpu:/\n0::/s\n", {"unified/s/cpu.max": "100000 100000"}, 1),
        ("nonsense\n", {"cpu.max": "nonsense"}, None),
        ("0::/\n", {"cpu.max": "100 0"}, None),
    ],
)
def test_the_tightest_quota_on_the_way_to_the_root_counts(
    plant: Plant, membership: str, files: dict[str, str], cores: float | None
) -> None:
    plant(membership, files)
    assert cores_allowed() == cores


@pytest.mark.parametrize(
    ("variables", "cores"),
    [
        ({"SLURM_CPUS_PER_TASK": "4"}, 4),
        ({"SLURM_CPUS_ON_NODE": "16"}, 16),
        ({"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "16"}, 4),
        ({"SLURM_CPUS_ON_NODE": "16(x2)"}, None),
        ({"SLURM_CPUS_ON_NODE": "0"}, None),
    ],
)
def test_what_slurm_gave_counts_where_it_is_not_enforced(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], cores: float | None
) -> None:
    plant("0::/\n", {"cpu.max": "max 100000"})
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cores_allowed() == cores


def test_memory_is_limited_by_every_group_and_files_that_may_be_dropped_are_free(
    plant: Plant,
) -> None:
    plant("0::/a\n", {"a/memory.max": "max", "a/memory.current": "5", "memory.max": "max"})
    assert memory_allowed() is None
    assert memory_left() is None
    plant(
        "0::/a/b\n",
        {
            "a/b/memory.max": "1000",
            "a/b/memory.current": "700",
            "a/b/memory.stat": "anon 300\ninactive_file 350\nactive_file 50\n",
            "a/memory.max": "1200",
            "a/memory.current": "900",
        },
    )
    assert memory_allowed() == 1000
    assert memory_left() == min(1000 - (700 - 350), 1200 - 900)


def test_memory_of_version_1(plant: Plant) -> None:
    files = {
        "memory/memory.limit_in_bytes": str(2**63 - 4096),  # how it says that there is no limit
        "memory/memory.usage_in_bytes": "900",
        "memory/job/memory.limit_in_bytes": "1000",
        "memory/job/memory.usage_in_bytes": "1010",
        "memory/job/memory.stat": "inactive_file 1\ntotal_inactive_file 20\n",
    }
    plant("4:memory:/job\n", files)
    assert (memory_allowed(), memory_left()) == (1000, 10)


COUNT = """
import torch
from vtrain.threads import use_processors
use_processors()
from vtrain.resources import cpu_count
print(cpu_count(), torch.get_num_threads())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_in_a_real_group_of_one_core_one_thread_is_taken() -> None:
    def join() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    with group_of_one_core() as group:
        if group is None:
            pytest.skip("no control group may be made here")
        env = {
            k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
        }
        command = [sys.executable, "-c", COUNT]
        limited = subprocess.run(command, env=env, preexec_fn=join, capture_output=True, text=True)
        assert limited.stdout.split() == ["1", "1"], limited.stderr
        env["OMP_NUM_THREADS"] = "2"  # a user's own setting wins
        own = subprocess.run(command, env=env, preexec_fn=join, capture_output=True, text=True)
        assert own.stdout.split() == ["1", "2"], own.stderr
