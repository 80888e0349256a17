import threading
import time
from collections.abc import Iterator

import pytest

from aerialseg.executor import local_threads, run_in_thread, run_tasks


def test_every_task_is_done_once_whatever_the_limit() -> None:
    for workers, in_flight in ((1, 1), (3, 2), (4, 16)):
        done = run_tasks(local_threads(workers), lambda n: n * n, range(50), in_flight)
        assert sorted(done) == [n * n for n in range(50)]


def test_no_more_tasks_are_taken_than_may_be_in_flight() -> None:
    taken = done = 0
    most = 0
    guard = threading.Lock()

    def tasks() -> Iterator[int]:
        nonlocal taken, most
        for number in range(40):
            with guard:
                taken += 1
                most = max(most, taken - done)
            yield number

    for _ in run_tasks(local_threads(2), lambda n: time.sleep(0.001), tasks(), in_flight=4):
        with guard:
            done += 1
    assert most <= 4 + 4  # those handed out, and finished ones that were not looked at yet


def test_the_first_error_ends_it_and_the_rest_is_not_begun() -> None:
    begun = []

    def work(number: int) -> None:
        begun.append(number)
        if number == 3:
            raise RuntimeError("the third")

    with pytest.raises(RuntimeError, match="the third"):
        list(run_tasks(local_threads(1), work, range(1000), in_flight=2))
    assert len(begun) < 10


def test_nothing_is_under_way_any_more_when_an_error_is_raised() -> None:
    finished = []

    def work(number: int) -> None:
        if number == 1:
            raise RuntimeError("at once")
        time.sleep(0.3)
        finished.append(number)

    with pytest.raises(RuntimeError, match="at once"):
        list(run_tasks(local_threads(2), work, range(2), in_flight=2))
    assert finished == [0]


def test_what_runs_aside_returns_and_raises_as_if_it_ran_here() -> None:
    assert run_in_thread(lambda: 6 * 7) == 42
    with pytest.raises(TimeoutError, match="its own"):  # not to be taken for "not done yet"
        run_in_thread(_time_out)


def _time_out() -> None:
    raise TimeoutError("its own")
