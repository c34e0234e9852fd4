"""A pipeline of three stages: while one item is computed, the next is loaded and the previous one stored."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
Computed = TypeVar("Computed")
Result = TypeVar("Result")

# Reports the item before, if it is stored by now, without waiting for it.
Poll = Callable[[], None]


def run_pipeline(
    items: Iterator[Item],
    load: Callable[[Item], Loaded],
    compute: Callable[[Loaded, Poll], Computed],
    store: Callable[[Computed], Result],
    on_result: Callable[[Result], None],
) -> None:
    """Pass each item through three stages, in the order of the items.

    One thread loads an item while the caller's thread computes the item before, and another thread stores the one
    before that. At most these three are held in memory. An exception in a stage is raised here; an item that is
    being stored at that moment is still completed.

    Args:
        items: Taken one at a time by the loading thread.
        load: The first stage.
        compute: The second stage, in the caller's thread. It may call its second argument at any time, so that a
            result, or a failure to store, is reported before the stage ends.
        store: The third stage.
        on_result: Called with each result, in the caller's thread.
    """
    with ThreadPoolExecutor(1, "load") as loader, ThreadPoolExecutor(1, "store") as storer:
        storing: Future[Result] | None = None

        def collect(*, wait: bool) -> None:
            nonlocal storing
            if storing is not None and (wait or storing.done()):
                result = storing.result()
                storing = None
                on_result(result)

        def poll() -> None:
            collect(wait=False)

        loading = loader.submit(_load_next, items, load)
        while loaded := loading.result():
            loading = loader.submit(_load_next, items, load)
            computed = compute(loaded[0], poll)
            collect(wait=True)
            storing = storer.submit(store, computed)
        collect(wait=True)


def _load_next(items: Iterator[Item], load: Callable[[Item], Loaded]) -> tuple[Loaded] | None:
    """The next item, loaded, as the only element of a tuple; None at the end."""
    for item in items:
        return (load(item),)
    return None
