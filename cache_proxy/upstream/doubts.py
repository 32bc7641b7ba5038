"""What one answer has cost without anybody knowing."""

from cache_proxy.calls import Call
from cache_proxy.upstream.books import Books


class Doubts:
    """How many calls there were of which nobody knows the outcome, and how many tokens they can have cost at most."""

    def __init__(self, books: Books) -> None:
        self.calls = 0
        self.tokens = 0
        self._books = books

    async def about(self, call: Call) -> None:
        """Count a call whose outcome is unknown, and have it written down. Never raises."""
        self.calls += 1
        self.tokens += call.tokens_bound
        await self._books.unsettled(call)
