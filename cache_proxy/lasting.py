"""Tasks that the end of their event loop does not cut off.

``asyncio.run``, uvicorn and the test tools end a loop alike: every task is cancelled at once and waited for, then the
loop is closed. A task that carries what was paid for must not be cancelled then; who holds it waits for it, in a task
that is (``wiring/loops.py``).
"""

import asyncio
from collections.abc import Coroutine, Iterable
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


async def all_of(works: "Iterable[Coroutine[Any, Any, T]]") -> list[T]:
    """What all of these give, each run as such a task."""
    return await asyncio.gather(*[start(work) for work in works])


def start(work: "Coroutine[Any, Any, T]", context: Context | None = None) -> "asyncio.Task[T]":
    """Run ``work`` as a task that only who holds it can cancel. It must be waited for before its loop is closed.

    ``context`` is a copy of the current one unless given.
    """
    task = asyncio.create_task(work, context=context)
    # Documented under "Extending" for makers of other kinds of tasks: it takes the task out of ``asyncio.all_tasks``,
    # which is where a loop's end finds those to cancel, and changes nothing else.
    asyncio._unregister_task(task)
    return task
