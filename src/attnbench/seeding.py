"""Randomness comes from named streams, so that nothing added later moves anything drawn before."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager


def stream(seed: int, *names: object) -> int:
    """A 63-bit seed for the stream called `names`, the same on every machine."""
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def seeded(seed: int, *names: object) -> Iterator[None]:
    """Draw from the stream called `names` inside, and leave torch's generators as they were."""
    from attnbench.devices import generators

    before = [(generator, generator.get_state()) for generator in generators()]
    try:
        for generator, _ in before:
            generator.manual_seed(stream(seed, *names))
        yield
    finally:
        for generator, state in before:
            generator.set_state(state)
