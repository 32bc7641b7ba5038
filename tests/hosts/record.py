"""What the host apps of these tests have in common: what they note, and gates that hold up a stream."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import suppress

HELLO = "hello from the host"
STATE = "set in the lifespan"

noted: list[str] = []
"""What happened inside a host, in order."""

gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
"""One for each stream, by its token."""


async def pieces(token: str) -> AsyncIterator[bytes]:
    """A stream that goes on when its gate is opened, and notes a reader who leaves."""
    try:
        yield b"one,"
        await gates[token].wait()
        yield b"two"
    except (asyncio.CancelledError, GeneratorExit):
        noted.append(f"left {token}")
        raise
    finally:
        with suppress(KeyError):
            del gates[token]


async def later(token: str) -> None:
    """A background task."""
    await asyncio.sleep(0)
    noted.append(f"background {token}")
