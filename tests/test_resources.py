from pathlib import Path

import pytest

from vtrain.resources import cpu_count, free_memory, machine_memory


def test_this_machine_has_memory_and_cores() -> None:
    assert machine_memory() >= free_memory() > 2**20
    assert cpu_count() >= 1


@pytest.mark.parametrize("variable", ["LOCAL_WORLD_SIZE", "WORLD_SIZE"])
def test_processes_share_the_memory_and_cores_of_a_machine(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    alone = free_memory()
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(12)))
    monkeypatch.setattr(Path, "read_text", no_container)
    monkeypatch.setenv(variable, "4")
    assert cpu_count() == 3
    assert free_memory() == 1000 * 1024 // 4 < alone


def no_container(path: Path) -> str:
    if path.name == "meminfo":
        return "MemTotal: 2000 kB\nMemAvailable: 1000 kB\n"
    raise FileNotFoundError(path)


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 12), ("250000 100000", 2), ("1 2", 1)])
def test_the_limits_of_a_container_count(
    monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    files = {"cpu.max": quota, "memory.max": "500000", "memory.current": "200000"}
    files["meminfo"] = "MemAvailable: 1000 kB"
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(12)))
    monkeypatch.setattr(Path, "read_text", lambda path: files[path.name])
    for variable in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.delenv(variable, raising=False)
    assert (cpu_count(), free_memory(), machine_memory()) == (cores, 300_000, 500_000)
