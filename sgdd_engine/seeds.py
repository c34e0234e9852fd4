"""Independent streams of random numbers from one seed."""

from hashlib import blake2b

_WORD = 1 << 64


def stream_seed(seed: int, *stream: int) -> int:
    """The seed of one stream, in 64 bits: what is drawn from one stream says nothing of another.

    It is a hash of all the numbers (BLAKE2b), since PyTorch's generator on a CPU looks at the lower 32 bits of a seed
    only: of a sum, streams that differ above them would draw the same.

    Args:
        seed: What the user chooses.
        stream: One or more numbers that name the stream.
    """
    numbers = b"".join((number % _WORD).to_bytes(8, "little") for number in (seed, *stream))
    return int.from_bytes(blake2b(numbers, digest_size=8).digest(), "little")
