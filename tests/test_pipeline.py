import threading
import time

import pytest

from sgdd_engine.data.encoding import run_pipeline

# A thread cannot be interrupted, so a broken program must end its own waiting; a sound one never waits this long.
BROKEN_AFTER_SECONDS = 600


def test_every_item_takes_its_three_steps_in_order():
    results: list[int] = []
    run_pipeline(
        iter(range(10)), lambda n: 10 * n, lambda n, poll: n + 1, lambda n: 2 * n, on_result=results.append
    )
    assert results == [2 * (10 * n + 1) for n in range(10)]
    run_pipeline(iter([]), None, None, None, on_result=results.append)
    assert len(results) == 10


def test_items_that_count_as_false_are_items():
    results: list[int] = []
    run_pipeline(iter([0, 0]), lambda n: n, lambda n, poll: n, lambda n: n, on_result=results.append)
    assert results == [0, 0]


def test_while_one_is_computed_the_next_is_got_ready_and_the_last_is_stored():
    met = threading.Barrier(3, timeout=BROKEN_AFTER_SECONDS)

    def meet(n: int, wanted: int) -> int:
        if n == wanted:
            met.wait()
        return n

    # Only if the three are under way at once do they meet.
    run_pipeline(
        iter(range(4)),
        lambda n: meet(n, 2),
        lambda n, poll: meet(n, 1),
        lambda n: meet(n, 0),
        on_result=lambda n: None,
    )


def test_no_more_than_three_are_held():
    taken, stored = [], []

    def items():
        for n in range(20):
            taken.append(n)
            assert len(taken) - len(stored) <= 3
            yield n

    run_pipeline(items(), lambda n: n, lambda n, poll: n, stored.append, on_result=lambda n: None)
    assert len(stored) == 20


@pytest.mark.parametrize("step", ["items", "load", "compute", "store"])
def test_what_goes_wrong_is_raised_as_itself_and_what_is_being_stored_is_completed(step):
    stored: list[int] = []

    def failing(name: str, n: int) -> int:
        if name == step and n == 2:
            raise OSError("the disk is full")
        return n

    def store(n: int) -> None:
        failing("store", n)
        stored.append(n)

    with pytest.raises(OSError, match="the disk is full"):
        run_pipeline(
            (failing("items", n) for n in range(6)),
            lambda n: failing("load", n),
            lambda n, poll: failing("compute", n),
            store,
            on_result=lambda n: None,
        )
    assert stored == [0, 1]


def test_a_failure_to_store_is_noticed_while_the_next_is_computed():
    computed = []

    def store(n: int) -> None:
        raise OSError("the disk is full")

    def compute(n: int, look) -> int:
        while n == 1:  # until looking raises what the other thread met with
            look()
            time.sleep(0.01)
        computed.append(n)
        return n

    with pytest.raises(OSError, match="the disk is full"):
        run_pipeline(iter(range(3)), lambda n: n, compute, store, on_result=lambda n: None)
    assert computed == [0]
