"""Answers that read as LiteLLM's and OpenAI's do: ``answer.data[0]["embedding"]``, ``answer["data"][0].embedding``."""

from typing import Any

from cache_proxy.receipts import Receipt


class Fields(dict[str, Any]):
    """A JSON object whose fields are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no field {name!r}") from None

    def model_dump(self) -> dict[str, Any]:
        """The plain JSON object."""
        return dict(_plain(self))


class Answer(Fields):
    """An answer, and the receipt that tells what it cost and saved."""

    receipt: Receipt

    def __init__(self, fields: dict[str, Any], receipt: Receipt) -> None:
        super().__init__({name: _read(value) for name, value in fields.items()})
        self.__dict__["receipt"] = receipt


class EmbeddingResponse(Answer):
    """The answer of ``/embeddings``: ``model``, ``object``, ``usage``, ``data``."""


class RerankResponse(Answer):
    """The answer of ``/rerank``: ``model``, ``object``, ``usage``, ``results``, ``id``, ``meta``."""


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        return Fields({name: _read(member) for name, member in value.items()})
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [_read(member) for member in value]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Fields):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], Fields):
        return [_plain(member) for member in value]
    return value
