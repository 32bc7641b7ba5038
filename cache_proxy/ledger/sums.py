"""What calls and requests add up to, by day and by what reports are grouped by."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cache_proxy.calls import Account, Call, Payer, Settlement
from cache_proxy.ledger.found import RESERVED
from cache_proxy.receipts import Receipt

DAY = 86400

KINDS = ("all", "key", "team", "user", "tag", "model", "endpoint")

AMOUNTS = (
    "requests", "items", "hits", "misses", "duplicates", "joined", "tokens_saved", "saved", "saved_unpriced",
    "tokens_billed", "cost", "cost_unpriced", "tokens_unsettled",
)  # fmt: skip
"""What is added up. ``saved`` and ``cost`` are pico-USD; what ends in ``_unpriced`` are tokens that stand in neither,
for nobody knows their price."""

Place = tuple[int, str, str]
"""Day, kind and name."""


class Sums:
    """Adds up what one transaction writes."""

    def __init__(self) -> None:
        self._amounts: defaultdict[Place, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._labels: dict[Place, str] = {}

    def intended(self, call: Call) -> None:
        """Until more is known, a call may cost its bound."""
        for share in call.shares:
            self._add(call.sent_at, share.payer, call, {"tokens_unsettled": share.tokens_bound})

    def settled(self, call: Call, settlement: Settlement) -> None:
        """It is known now."""
        for share, tokens in zip(call.shares, settlement.tokens, strict=True):
            amounts = {"tokens_unsettled": -share.tokens_bound, "tokens_billed": tokens}
            amounts |= _money(tokens, call.price, "cost", "cost_unpriced")
            self._add(call.sent_at, share.payer, call, amounts)

    def _add(self, moment: float, payer: Payer, call: Call, amounts: Mapping[str, int]) -> None:
        user = payer.account.user or payer.end_user
        self._add_to(moment, payer.account, user, payer.tags, call.model, call.endpoint.value, amounts)

    def told(self, receipt: Receipt) -> None:
        """A request. What was billed is told by the calls."""
        counts = receipt.counts._asdict()
        saved = {"tokens_saved": receipt.tokens_saved, "saved": receipt.saved or 0}
        if receipt.saved is None:
            saved["saved_unpriced"] = receipt.tokens_saved
        user = receipt.account.user or receipt.user or ""
        self._add_to(
            receipt.started_at, receipt.account, user, receipt.tags, receipt.upstream_model, receipt.endpoint,
            {"requests": 1, **counts, **saved},
        )  # fmt: skip

    def _add_to(
        self,
        moment: float,
        account: Account,
        user: str,
        tags: Sequence[str],
        model: str,
        endpoint: str,
        amounts: Mapping[str, int],
    ) -> None:
        key = account.key or account.alias
        day = int(moment // DAY)
        places = [("all", ""), ("key", key), ("team", account.team), ("user", user), ("model", model)]
        places += [("endpoint", endpoint), *(("tag", tag) for tag in dict.fromkeys(tags or ("",)))]
        self._labels[day, "key", text(key)] = text(account.alias)
        for kind, name in places:
            sums = self._amounts[day, kind, text(name)]
            for what, amount in amounts.items():
                sums[what] += amount

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of ``days`` to be added to, always in the same order: two that write then never lock each other."""
        for place in sorted(self._amounts):
            day, kind, name = place
            amounts = dict.fromkeys(AMOUNTS, 0) | self._amounts[place]
            yield {"day": day, "kind": kind, "name": name, "label": self._labels.get(place, ""), **amounts}


def _money(tokens: int, price: int | None, known: str, unknown: str) -> dict[str, int]:
    return {unknown: tokens} if price is None else {known: tokens * price}


def text(word: str) -> str:
    """Somebody else's word as every database takes it: PostgreSQL knows no NUL, UTF-8 no half of a character. None of
    them begins as our own do.
    """
    return word.encode("utf-8", "replace").decode().translate(_REPLACED)


_REPLACED = str.maketrans(dict.fromkeys(("\0", RESERVED), "\ufffd"))
