"""What one of several processes does for all of them."""

from collections.abc import Callable
from typing import TypeVar

from sgdd_engine.distributed import LostProcessError, World

Result = TypeVar("Result")


def on_main(world: World, work: Callable[[], Result]) -> Result | None:
    """What rank 0 does while the others wait; None on those.

    Raises:
        LostProcessError: On the others if it fails; rank 0 says why.
    """
    try:
        result = work() if world.is_main else None
    except Exception:
        world.any(True)
        raise
    if world.any(False):
        raise LostProcessError("Rank 0 could not go on, and says why.")
    return result
