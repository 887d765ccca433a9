import time

import pytest
import torch

from vtrain.bench.timing import WINDOWS, Watches, in_turns, timed, windows

CPU = torch.device("cpu")


class Worker:
    """Something with a method to watch."""

    def work(self, seconds: float) -> str:
        time.sleep(seconds)
        return "done"


def test_windows_count_images_against_time() -> None:
    def piece() -> int:
        time.sleep(0.002)
        return 10

    rates = windows(piece, seconds=0.1, device=CPU)
    assert len(rates) >= WINDOWS
    assert all(0 < rate < 10 / 0.002 for rate in rates)  # a sleep is never too short


def test_there_are_enough_windows_even_where_one_piece_takes_long() -> None:
    assert len(windows(lambda: time.sleep(0.02) or 1, seconds=0.01, device=CPU)) == WINDOWS


def test_works_take_turns_so_that_a_slower_machine_slows_all() -> None:
    now, order = 0.0, []

    def work(name: str, seconds: float) -> int:
        nonlocal now
        now += seconds * (5 if now > 1000 else 1)
        order.append(name)
        return 1

    works = [lambda: work("a", 1.0), lambda: work("b", 2.0)]
    a, b = in_turns(works, 2000, CPU, clock=lambda: now, least=1000)
    assert "".join(order[4:]) == "aab" * len(a)  # a window is as many pieces as take 2 s
    assert len(a) == len(b) >= 300
    assert max(a) > 4 * min(a)
    halves = [first / second for first, second in zip(a, b, strict=True)]
    assert sorted(halves)[len(halves) // 2] == pytest.approx(2)


def test_a_watch_adds_up_what_a_method_takes_and_returns_what_it_returns() -> None:
    worker, watches = Worker(), Watches(CPU)
    with watches.on(worker, "work", "sleep"):
        assert worker.work(0.02) == worker.work(0.01) == "done"
    assert 0.03 <= watches.seconds["sleep"] < 1


def test_a_watch_is_taken_off_again_after_an_error_too() -> None:
    worker, watches = Worker(), Watches(CPU)
    with pytest.raises(TypeError), watches.on(worker, "work", "sleep"):
        worker.work("long")  # type: ignore[arg-type]
    assert vars(worker) == {}
    spent = watches.seconds["sleep"]
    worker.work(0.01)
    assert watches.seconds["sleep"] == spent


def test_a_watched_attribute_of_the_object_itself_comes_back() -> None:
    worker, watches = Worker(), Watches(CPU)
    worker.work = own = lambda seconds: "mine"  # type: ignore[method-assign]
    with watches.on(worker, "work", "sleep"):
        assert worker.work(0) == "mine"
    assert worker.work is own


def test_nothing_is_watched_where_there_is_nothing() -> None:
    watches = Watches(CPU)
    with watches.on(None, "update", "ema"):
        pass
    assert watches.seconds["ema"] == 0


def test_getting_items_is_watched_and_using_them_is_not() -> None:
    def slow() -> object:
        for number in range(3):
            time.sleep(0.01)
            yield number

    watches = Watches(CPU)
    got = []
    for item in watches.each("data", slow()):
        time.sleep(0.02)
        got.append(item)
    assert got == [0, 1, 2]
    assert 0.03 <= watches.seconds["data"] < 0.03 + 3 * 0.02


def test_timed_adds_up() -> None:
    seconds = {"cold": 1.0}
    with timed(seconds, "cold"):
        time.sleep(0.01)
    assert 1.01 <= seconds["cold"] < 2
