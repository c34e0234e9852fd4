"""Three steps of a piece of work side by side: while one piece is computed, the next is got ready."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Ready = TypeVar("Ready")
Computed = TypeVar("Computed")
Result = TypeVar("Result")

# Looks after the piece before, without waiting for it.
Look = Callable[[], None]


def run_overlapped(
    items: Iterator[Item],
    get_ready: Callable[[Item], Ready],
    compute: Callable[[Ready, Look], Computed],
    store: Callable[[Computed], Result],
    on_result: Callable[[Result], None],
) -> None:
    """Do three steps with each item, in the order of the items.

    One thread takes an item and gets it ready while the caller's thread computes the item before, and another
    thread stores the one before that. No more than these three are held at any time. Whatever is raised in a
    step is raised here; what was being stored by then is still completed.

    Args:
        items: Taken one at a time by the first thread.
        get_ready: The first step.
        compute: The second step, in the caller's thread. It may call its second argument at any time, so that a
            result, or a failure to store, is known before the step ends.
        store: The third step.
        on_result: Told each result, in the caller's thread.
    """
    with ThreadPoolExecutor(1, "ready") as before, ThreadPoolExecutor(1, "store") as after:
        storing: Future[Result] | None = None

        def collect(*, wait: bool) -> None:
            nonlocal storing
            if storing is not None and (wait or storing.done()):
                result = storing.result()
                storing = None
                on_result(result)

        def look() -> None:
            collect(wait=False)

        ahead = before.submit(_next, items, get_ready)
        while ready := ahead.result():
            ahead = before.submit(_next, items, get_ready)
            computed = compute(ready[0], look)
            collect(wait=True)
            storing = after.submit(store, computed)
        collect(wait=True)


def _next(items: Iterator[Item], get_ready: Callable[[Item], Ready]) -> tuple[Ready] | None:
    """The next item, ready, as the only one of a tuple; None at the end."""
    for item in items:
        return (get_ready(item),)
    return None
