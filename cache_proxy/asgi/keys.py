"""The routes about keys, in LiteLLM's shapes. The work is ``wiring/keys``'s; none of it is done on the event loop."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import orjson

from cache_proxy.access import AccessKey, Admitted
from cache_proxy.asgi.errors import HTTPError
from cache_proxy.asgi.exchange import Exchange
from cache_proxy.asgi.rights import forbidden
from cache_proxy.core.wire.fields import check_type, parse_body
from cache_proxy.errors import RequestError
from cache_proxy.models import Json
from cache_proxy.wiring import Wired
from cache_proxy.wiring.keys import KeyDesk, told_without_ledger

log = logging.getLogger("cache_proxy")

T = TypeVar("T")

_PAGE, _LONGEST_PAGE = 10, 100
_FILTERS = {"key_alias": "alias", "team_id": "team", "user_id": "user", "key_hash": "hash"}


class KeyRoutes:
    """The handlers; each takes an exchange and who asks."""

    def __init__(self, wired: Wired, body_limit: int) -> None:
        self._wired = wired
        self._body_limit = body_limit

    async def generate(self, exchange: Exchange, _admitted: Admitted) -> None:
        """Make a key. This is the only answer that ever holds it."""
        body = parse_body(await exchange.body(self._body_limit))
        made = await self._at_the_desk(lambda desk: desk.generate(body))
        self._wired.keys_changed()
        log.info("key %s was made", made.key.hash[:8])
        await self._tell(exchange, lambda desk: {"key": made.secret, **desk.told([made.key])[0]})

    async def update(self, exchange: Exchange, _admitted: Admitted) -> None:
        """Change what a key may do."""
        body = parse_body(await exchange.body(self._body_limit))
        word = _word("key", body.get("key"))
        key = await self._at_the_desk(lambda desk: desk.update(word, body))
        self._wired.keys_changed()
        log.info("key %s was changed", key.hash[:8])
        await self._tell(exchange, lambda desk: {"key": key.hash, **desk.told([key])[0]})

    async def delete(self, exchange: Exchange, _admitted: Admitted) -> None:
        """Take keys back: they let nobody in any more."""
        body = parse_body(await exchange.body(self._body_limit))
        words = [*_words("keys", body.get("keys")), *_words("key_aliases", body.get("key_aliases"))]
        if not words:
            raise RequestError('Send {"keys": […]} or {"key_aliases": […]}.', param="keys", code="missing_field")
        deleted = await self._at_the_desk(lambda desk: desk.delete(words))
        self._wired.keys_changed()
        log.info("%d keys were taken back", len(deleted))
        await exchange.reply(200, orjson.dumps({"deleted_keys": deleted}))

    async def info(self, exchange: Exchange, admitted: Admitted) -> None:
        """What a key may do and has spent: any one for the master, for others their own."""
        word, own = _query(exchange).get("key"), admitted.key
        if own is not None:
            await self._own_info(exchange, own, word)
            return
        if not word:
            raise RequestError("Say which `key`: /key/info?key=…", param="key", code="missing_field")
        await self._tell(exchange, lambda desk: _info(desk, desk.find(word)))

    async def _own_info(self, exchange: Exchange, own: AccessKey, word: str | None) -> None:
        # Without looking: whether there is another of this name is nothing that he may learn.
        if word and not own.is_called(word):
            raise forbidden("A key may ask about itself only.", "master_key_required")
        if await self._wired.key_desk() is None:
            # A key of the file, where there is no ledger.
            await exchange.reply(200, orjson.dumps({"key": own.hash, "info": told_without_ledger(own)}))
        else:
            await self._tell(exchange, lambda desk: _info(desk, own))

    async def list(self, exchange: Exchange, _admitted: Admitted) -> None:
        """The keys there are, by pages; with ``return_full_object=true`` all about each."""
        query = _query(exchange)
        page, size = _number(query, "page", 1, 2**31), _number(query, "size", _PAGE, _LONGEST_PAGE)
        filters = [(name, of) for name, of in _FILTERS.items() if name in query]
        full = query.get("return_full_object", "").lower() == "true"

        def told(desk: KeyDesk) -> Json:
            found = [key for key in desk.all() if all(getattr(key, of) == query[name] for name, of in filters)]
            # There may be many, and what each has spent is asked of the ledger: of those on the page only.
            shown = found[(page - 1) * size : page * size]
            keys: list[Any] = desk.told(shown) if full else [key.hash for key in shown]
            pages = -(-len(found) // size)
            return {"keys": keys, "total_count": len(found), "current_page": page, "total_pages": pages}

        await self._tell(exchange, told)

    async def _tell(self, exchange: Exchange, told: Callable[[KeyDesk], Json]) -> None:
        await exchange.reply(200, orjson.dumps(await self._at_the_desk(told)))

    async def _at_the_desk(self, work: Callable[[KeyDesk], T]) -> T:
        desk = await self._wired.key_desk()
        if desk is None:
            raise HTTPError(
                400,
                "There are no keys here: they need general_settings.master_key, and the ledger's database.",
                kind="invalid_request_error",
                code="no_keys_here",
            )
        return await asyncio.to_thread(work, desk)


def _info(desk: KeyDesk, key: AccessKey) -> Json:
    return {"key": key.hash, "info": desk.told([key])[0]}


def _query(exchange: Exchange) -> dict[str, str]:
    return dict(parse_qsl(exchange.scope.get("query_string", b"").decode("latin-1")))


def _number(query: dict[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise RequestError(f"`{name}` must be a whole number from 1 to {most}.", param=name, code="out_of_range")
    return int(text)


def _word(name: str, value: Json) -> str:
    if value is None or value == "":
        raise RequestError(f"`{name}` is required.", param=name, code="missing_field")
    check_type(name, value, str)
    return str(value)


def _words(name: str, value: Json) -> list[str]:
    if value is None:
        return []
    if type(value) is not list:
        raise RequestError(f"`{name}` must be a list of strings.", param=name, code="wrong_type")
    return [_word(f"{name}[{at}]", each) for at, each in enumerate(value)]
