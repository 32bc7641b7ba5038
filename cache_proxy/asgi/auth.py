"""Who may come in. It fails closed: whatever is not clearly allowed is refused, and nothing is spent.

- With a ``master_key``: only who sends it, or a key that is known and good, as ``x-litellm-api-key``,
  ``Authorization: Bearer``, ``x-api-key`` or ``api-key``. Keys are known by their hash, which is what they are looked
  up by: no comparison takes longer the more of a key is right.
- Without one, our own server takes calls from this machine only, and none that a web page could have made: a loopback
  peer, a loopback ``Host`` (``0.0.0.0`` included: LiteLLM's samples are written so), no ``Origin`` but its own, and
  only ``application/json`` (which a page can not send elsewhere without asking first).
- Without one, in somebody's app: nobody, unless the app says ``auth="open"`` or gives a callable that decides.
- Where callers may bring the key that they pay with (``pass_through_keys``), it is in ``Authorization``, and ours in
  another header. Whoever has a key for the upstream and none of ours is a guest: the upstream decides about that key,
  before anything is given away for it. What may be a key of ours is never taken for one of the upstream's.
"""

import hmac
import inspect
import logging
import re
import time
from collections.abc import Awaitable, Callable, Collection
from functools import lru_cache
from hashlib import sha256
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.types import Scope

from cache_proxy.access import PREFIX, AccessKey, Admitted
from cache_proxy.asgi import credentials
from cache_proxy.asgi.errors import HTTPError
from cache_proxy.asgi.exchange import Exchange
from cache_proxy.calls import Account
from cache_proxy.errors import ConfigError, LedgerError

log = logging.getLogger("cache_proxy")

Verdict = bool | str | None
Auth = Literal["open", "loopback"] | Callable[[Scope], Verdict | Awaitable[Verdict]]
"""``"open"``: everybody; ``"loopback"``: this machine; a callable gets the ASGI scope and says yes with ``True`` or
the caller's name (for the log). Anything else is no; Starlette's ``HTTPException`` is a no with a status of its own."""

FindKey = Callable[[str], Awaitable[AccessKey | None]]
"""Gives the key of a hash, if there is one. Raises ``LedgerError`` where nobody can tell."""

WORDS = ("open", "loopback")

MASTER = "master"
"""What the holder of the master key is called."""

LOCAL, OPEN = "local", "open"
"""What those are called who are asked for no key."""

_LONGEST_NAME = 128
_REDIRECTS = (301, 302, 303, 307, 308)
_OUR_HEADERS = ("content-length", "content-type", "transfer-encoding")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]+)?")


class Gate:
    """Lets a request in, or raises ``HTTPError``."""

    def __init__(
        self,
        master_key: SecretStr | None,
        auth: Auth | None,
        find_key: FindKey | None = None,
        *,
        configured: Collection[str] = (),
        pass_through: bool = False,
    ) -> None:
        """``configured`` are the hashes of the keys of the file; ``pass_through`` lets callers bring their own."""
        # By type as well: False and 0 are easily written and mean anything but "everybody".
        if not (auth is None or callable(auth) or (isinstance(auth, str) and auth in WORDS)):
            raise ConfigError('auth must be "open", a callable that gets the ASGI scope, or left out')
        if master_key is not None and auth == "open":
            raise ConfigError('auth="open" would leave the configured master_key without effect: take one of them out')
        self._digest = None if master_key is None else _digest(master_key.get_secret_value().encode())
        self._auth = auth
        self._find_key = find_key
        self._configured = frozenset(configured)
        self._pass_through = pass_through
        self._has_complained = False

    async def admit(self, exchange: Exchange) -> Admitted:
        """Who this is: ``master``, a key, ``local``, ``open``, what the app's callable says, or a guest."""
        if not self._pass_through:
            return await self._admit(exchange, credentials.any_key(exchange))
        ours, bearer = credentials.our_key(exchange), credentials.bearer(exchange)
        if bearer is None or self._may_be_ours(bearer):
            return await self._admit(exchange, ours or bearer)
        own = credentials.own_key(bearer)
        if ours is None and not callable(self._auth) and (self._digest is not None or self._auth is None):
            return Admitted(own.account, own=own, guest=True)
        admitted = await self._admit(exchange, ours)
        is_nobody = admitted.account.alias in (LOCAL, OPEN) and not admitted.account.key
        return admitted._replace(own=own, account=own.account if is_nobody else admitted.account)

    def _may_be_ours(self, key: bytes) -> bool:
        """Whether this is a key of ours, or was one: such a one goes nowhere else."""
        if key.lower().startswith(PREFIX.encode()):
            return True
        digest = _digest(key)
        return (self._digest is not None and hmac.compare_digest(digest, self._digest)) or (
            digest.hex() in self._configured
        )

    async def _admit(self, exchange: Exchange, given: bytes | None) -> Admitted:
        if self._digest is not None and given is not None:
            by_key = await self._by_key(_digest(given), self._digest)
            if by_key is not None:
                return by_key
        if callable(self._auth):
            # Where there is a master key, only its holder administers.
            return Admitted(Account(await self._ask(self._auth, exchange)), member=self._digest is not None)
        if self._digest is None and self._auth == "loopback":
            check_local(exchange)
            return Admitted(Account(LOCAL))
        if self._digest is None and self._auth == "open":
            return Admitted(Account(OPEN))
        raise credentials.unauthorized()

    async def _by_key(self, digest: bytes, master: bytes) -> Admitted | None:
        if hmac.compare_digest(digest, master):
            return Admitted(Account(MASTER, master.hex()))
        if self._find_key is None:
            return None
        key = await _find_good(self._find_key, digest.hex())
        return None if key is None else Admitted(key.account, key)

    async def _ask(self, auth: Callable[[Scope], Any], exchange: Exchange) -> str:
        try:
            verdict = auth(exchange.scope)
            if inspect.isawaitable(verdict):
                verdict = await verdict
        except HTTPException as error:
            raise _refused_by_the_app(error) from None
        if verdict is True:
            return "app"
        if isinstance(verdict, str) and verdict:
            # For the record: a name, and not whatever token it was found in.
            return verdict[:_LONGEST_NAME]
        if verdict:
            self._complain(verdict)
        raise credentials.unauthorized()

    def _complain(self, verdict: object) -> None:
        """Once: what is neither yes nor no, such as a generator of which nothing has run, is a mistake in the app."""
        if not self._has_complained:
            self._has_complained = True
            log.error(
                "auth returned %s, which lets nobody in: it must return True or the caller's name",
                type(verdict).__name__,
            )


async def readmit(admitted: Admitted, find_key: FindKey) -> Admitted:
    """The same, as things stand now: time has passed since, and a key may have been changed or taken back. Raises
    ``HTTPError``.
    """
    if admitted.key is None:
        return admitted
    key = await _find_good(find_key, admitted.key.hash)
    if key is None:
        raise credentials.unauthorized()
    return admitted._replace(account=key.account, key=key)


async def _find_good(find_key: FindKey, hash_: str) -> AccessKey | None:
    """The key of this hash, if it lets anybody in: one that is unknown, blocked or expired is told the same."""
    try:
        key = await find_key(hash_)
    except LedgerError:
        raise _nobody_can_tell() from None
    return key if key is not None and key.is_good(time.time()) else None


def _digest(secret: bytes) -> bytes:
    return sha256(secret).digest()


def check_local(exchange: Exchange) -> None:
    """Raise ``HTTPError`` unless this request comes from this machine and no web page can have sent it."""
    _refuse_repeats(exchange)
    client = exchange.scope.get("client")
    fault = _fault(
        client and client[0],
        exchange.header(b"host") or "",
        exchange.header(b"origin"),
        exchange.header(b"content-type") if exchange.scope["method"] == "POST" else _JSON,
    )
    if fault is _NOT_JSON:
        raise HTTPError(415, fault, kind="invalid_request_error", code="unsupported_media_type", param="Content-Type")
    if fault is not None:
        raise HTTPError(403, fault, kind="permission_error", code="not_local")


def _refuse_repeats(exchange: Exchange) -> None:
    """A second Host, Origin or Content-Type could hide the first."""
    if len(exchange.headers) == len(exchange.scope["headers"]):
        return
    for name in (b"host", b"origin", b"content-type"):
        if len(exchange.all_values(name)) > 1:
            raise credentials.bad_header(f"{name.decode()} was sent more than once.")


_JSON = "application/json"
_NOT_JSON = "Send Content-Type: application/json."


@lru_cache(maxsize=1024)
def _fault(client: str | None, host: str, origin: str | None, content_type: str | None) -> str | None:
    """What keeps such a request out. Clients repeat themselves, so the answer is remembered."""
    if client is not None and not is_loopback(client):
        return "Without a master_key only this machine is served. Set general_settings.master_key."
    if not is_loopback(_host_name(host)) and _host_name(host) != "0.0.0.0":  # noqa: S104  LiteLLM's samples
        return "Without a master_key the Host header must name this machine, such as localhost."
    if origin is not None and _netloc(origin) != host:
        return "Without a master_key no web page of another origin is served."
    if (content_type or "").partition(";")[0].strip().lower() != _JSON:
        return _NOT_JSON
    return None


def is_loopback(host: str) -> bool:
    """Whether this host name or address is this machine itself."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _host_name(host: str) -> str:
    """The name in a Host header; empty if there is anything in it but a name and a port."""
    return _split(f"//{host}").hostname or "" if _HOST.fullmatch(host) else ""


def _netloc(origin: str) -> str:
    return _split(origin).netloc


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _nobody_can_tell() -> HTTPError:
    return HTTPError(
        503,
        "The database of the keys is away, and this key is not known here.",
        kind="ledger_error",
        code="ledger_unavailable",
        headers=[(b"retry-after", b"1")],
    )


def _refused_by_the_app(error: HTTPException) -> HTTPError:
    if not (400 <= error.status_code < 600 or error.status_code in _REDIRECTS):
        return credentials.unauthorized()
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in (error.headers or {}).items()
        if name.lower() not in _OUR_HEADERS
    ]
    said = error.detail if isinstance(error.detail, str) else "The app refuses this request."
    return HTTPError(error.status_code, said, kind="permission_error", code="refused_by_app", headers=headers)
