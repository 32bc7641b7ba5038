"""What the proxy is measured against: the least that an app on the same server can do.

It parses the body with orjson, hashes each text, and looks it up in a dict. A single text's reply is kept as bytes
and written as it is; for a batch, the numbers are kept as arrays and formatted each time, as an app without our
renderings would. What it does not hold yet it asks the upstream for, so that both sides write the same reply.
"""

import base64
import os
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.types import Receive, Scope, Send

Vector = NDArray[np.float32]


class Bare:
    """An ASGI app with two dicts."""

    def __init__(self) -> None:
        self._upstream = os.environ["BENCH_UPSTREAM"]
        self._replies: dict[bytes, bytes] = {}
        self._vectors: dict[bytes, Vector] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        del scope
        message = await receive()
        parts = [message["body"]]
        while message.get("more_body"):
            message = await receive()
            parts.append(message["body"])
        raw = b"".join(parts)
        asked = orjson.loads(raw)
        body = self._one(asked, raw) if len(asked["input"]) == 1 else self._many(asked)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _one(self, asked: dict[str, Any], raw: bytes) -> bytes:
        key = sha256(asked["input"][0].encode()).digest()
        reply = self._replies.get(key)
        if reply is None:
            reply = self._replies[key] = self._fetched(raw)
        return reply

    def _many(self, asked: dict[str, Any]) -> bytes:
        keys = [sha256(text.encode()).digest() for text in asked["input"]]
        missing = [text for key, text in zip(keys, asked["input"], strict=True) if key not in self._vectors]
        if missing:
            self._learn(asked["model"], missing)
        return written(asked["model"], [self._vectors[key] for key in keys], asked.get("embedding_type"))

    def _learn(self, model: str, texts: list[str]) -> None:
        data = orjson.loads(self._fetched(orjson.dumps({"model": model, "input": texts})))["data"]
        for text, datum in zip(texts, data, strict=True):
            self._vectors[sha256(text.encode()).digest()] = np.array(datum["embedding"], dtype="<f4")

    def _fetched(self, body: bytes) -> bytes:
        headers = {"content-type": "application/json", "authorization": "Bearer jina_bench"}
        reply = httpx.post(f"{self._upstream}/v1/embeddings", content=body, headers=headers, timeout=60)
        return reply.raise_for_status().content


def written(model: str, vectors: Sequence[NDArray[Any]], encoding: str | None, tokens: int = 0) -> bytes:
    """Jina's reply with these vectors, formatted in one go."""
    values: Sequence[Any] = vectors
    if encoding == "base64":
        values = [base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode() for vector in vectors]
    data = [{"object": "embedding", "index": index, "embedding": value} for index, value in enumerate(values)]
    usage = {"total_tokens": tokens, "prompt_tokens": tokens}
    reply = {"model": model, "object": "list", "usage": usage, "data": data}
    return orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY)
