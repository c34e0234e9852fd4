"""Memory that is free but still held by this process."""

import ctypes
import sys


def give_back_memory() -> None:
    """Return to the system what the C library keeps for later, where it can be asked to (glibc).

    Batches of many different shapes, or the training of a vocabulary, leave its heap full of holes: without this a
    long preparation would seem to need more and more.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
