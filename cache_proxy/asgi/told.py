"""What the reply's headers tell of a receipt (names: DESIGN of the outside, RFC 9211 for ``Cache-Status``)."""

from cache_proxy.core.spend import usd
from cache_proxy.receipts import Receipt

Headers = list[tuple[bytes, bytes]]


def headers(receipt: Receipt, key_spend: int | None) -> Headers:
    """The headers of an answer. ``key_spend`` is what this caller's key has paid so far, in pico-USD; ``None`` where
    nobody can tell.
    """
    cost = usd(receipt.cost).encode()
    told: Headers = [
        (b"x-litellm-call-id", receipt.request_id.encode()),
        (b"x-tokens-billed", b"%d" % receipt.tokens_billed),
        (b"x-tokens-saved", b"%d" % receipt.tokens_saved),
        (b"x-cost-usd", cost),
        (b"x-saved-usd", usd(receipt.saved).encode()),
    ]
    if key_spend is not None:
        told.append((b"x-litellm-key-spend", usd(key_spend).encode()))
    if receipt.cache_status:
        told.append((b"cache-status", receipt.cache_status.encode()))
    if receipt.key is not None:
        told.append((b"x-litellm-cache-key", receipt.key.encode()))
    if receipt.cost is not None:
        # LiteLLM's clients parse this one as a number.
        told.append((b"x-litellm-response-cost", cost))
    return told
