"""Return freed heap memory to the operating system."""

import ctypes
import sys


def trim_heap() -> None:
    """Return freed memory that the C library still holds to the system, where it can (glibc).

    Batches of many different shapes, or the training of a vocabulary, fragment the heap: without this call the
    resident memory of a long preparation grows.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
