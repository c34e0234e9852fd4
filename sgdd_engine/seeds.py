"""Independent streams of random numbers from one seed."""


def stream_seed(seed: int, stream: int) -> int:
    """The seed of one stream: what is drawn from one stream says nothing of another.

    `(seed + stream · m) mod 2⁶³` with m = ⌊2⁶⁴ / φ⌋, an odd number (Knuth, TAOCP vol. 3 §6.4: Fibonacci hashing),
    spreads neighbouring streams far apart in the seed space of torch's generators.
    """
    return (seed + stream * 0x9E3779B97F4A7C15) % (1 << 63)
