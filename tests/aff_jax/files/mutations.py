"""Damaged copies of a file, as accidents and attackers make them. They are seeded."""

import random
from collections.abc import Iterator

HUGE = [0, 2**24, 2**31, 2**32, 2**40, 2**48, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
EDGE = 1500  # bytes at both ends, where headers and directories are


def mutations(original: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield `count` copies, each damaged in one to four places."""
    rng = random.Random(seed)
    for _ in range(count):
        damaged = bytearray(original)
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            damage(damaged, original, rng)
        yield bytes(damaged)


def damage(damaged: bytearray, original: bytes, rng: random.Random) -> None:
    last = len(damaged) - 1
    if last < 0:
        return
    start = rng.randint(0, min(last, EDGE))
    end = rng.randint(max(0, last - EDGE), last)
    at = rng.choice([rng.randint(0, last), start, end])
    kind = rng.choice(["flip", "length", "cut", "splice", "drop"])
    if kind == "flip":
        damaged[at] ^= 1 << rng.randrange(8)
    elif kind == "length":
        width = rng.choice([4, 8])
        damaged[at : at + width] = (rng.choice(HUGE) % 2 ** (8 * width)).to_bytes(width, "little")
    elif kind == "cut":
        del damaged[at:]
    elif kind == "splice":
        start = rng.randrange(len(original))
        damaged[at:at] = original[start : start + rng.randint(1, 200)]
    else:
        del damaged[at : at + rng.randint(1, 200)]
