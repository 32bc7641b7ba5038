"""Writes notes down: all of them in one transaction, once."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, Executable, and_, or_, select

from cache_proxy.calls import Call, Payer
from cache_proxy.ledger import tables
from cache_proxy.ledger.budgets import Budgets
from cache_proxy.ledger.notes import Ending, Intent, Note, Prune, Tidy, Told
from cache_proxy.ledger.retention import prune
from cache_proxy.ledger.statements import Statements, statements
from cache_proxy.ledger.sums import Sums, text
from cache_proxy.ledger.tidying import MARKS_KEPT, tidy

Row = dict[str, Any]


class Batch:
    """Notes that are written together, and tried again together until they are.

    ``id`` tells whether they have been: a commit may have succeeded though nobody heard of it.
    """

    def __init__(self, id_: str, notes: Sequence[Note]) -> None:
        self.id = id_
        self.notes = notes
        self._tried: list[Intent] = []
        self._begun_at = float("inf")

    def post(self, connection: Connection, writer: str, now: float) -> list[Intent]:
        """Write the notes, unless the last try did. The intents that stand in the database once this is committed."""
        say = statements(connection.dialect.name)
        self._begun_at = min(self._begun_at, now)
        # First of all: its row's lock makes another try wait for one whose commit is still under way.
        if connection.scalar(say.mark_batch, {"writer": writer, "batch": self.id, "at": now}) is None:
            return self._tried
        if now - self._begun_at > MARKS_KEPT / 2 and self._stands(connection):
            # The mark that would have told may have been taken out meanwhile.
            return self._tried
        endings = [note for note in self.notes if isinstance(note, Ending)]
        self._tried = self._within_budgets(connection, say, endings)
        sums = Sums()
        calls = [intent.call for intent in self._tried]
        for call in calls:
            sums.intended(call)
        run(connection, say.add_call, map(_call, calls))
        run(connection, say.add_share, (row for call in calls for row in _shares(call)))
        settled = [end for end in endings if end.settlement is not None and _is_there(end, self._tried)]
        run(connection, say.settle_call, (_settled(ending, sums) for ending in settled))
        run(connection, say.settle_share, (row for ending in settled for row in _settled_shares(ending)))
        told = [note for note in self.notes if isinstance(note, Told)]
        run(connection, say.add_request, (_request(note, sums) for note in told))
        run(connection, say.add_to_day, sums.rows())
        for note in self.notes:
            if isinstance(note, Prune):
                note.more = prune(connection, note.before)
            elif isinstance(note, Tidy):
                note.told = tidy(connection, note.now, note.names_days, note.done)
        return self._tried

    def _stands(self, connection: Connection) -> bool:
        """Whether the rows of this batch stand in the database, of which all do or none."""
        calls, requests = tables.calls.c, tables.requests.c
        made = [intent.call.id for intent in self._tried]
        ended = [note.intent.call.id for note in self.notes if isinstance(note, Ending) and note.settlement is not None]
        told = [note.id for note in self.notes if isinstance(note, Told)]
        rows = (
            select(calls.id).where(or_(calls.id.in_(made), and_(calls.id.in_(ended), calls.settled_at.is_not(None)))),
            select(requests.id).where(requests.id.in_(told)),
        )
        return any(connection.execute(found.limit(1)).first() is not None for found in rows)

    def _within_budgets(self, connection: Connection, say: Statements, endings: Sequence[Ending]) -> list[Intent]:
        """Those of the intents that are due which fit the budgets of their payers."""
        due = _due(self.notes, endings)
        ended = [end for end in endings if end.settlement is not None and _is_there(end, due)]
        budgets = Budgets(connection, say, (intent.call for intent in (*due, *(end.intent for end in ended))))
        # What ended makes room for what is asked for.
        _settle(budgets, (end for end in ended if end.intent.written))
        # What comes with its ending has been sent.
        sent = {end.intent for end in endings}
        for intent in due:
            intent.refusal = budgets.reserve(intent.call, surely=intent in sent)
        fitting = [intent for intent in due if intent.refusal is None]
        _settle(budgets, (end for end in ended if not end.intent.written and end.intent in fitting))
        budgets.write()
        return fitting


def _settle(budgets: Budgets, endings: Iterable[Ending]) -> None:
    for ending in endings:
        if ending.settlement is not None:
            budgets.settle(ending.intent.call, ending.settlement)


def _due(notes: Sequence[Note], endings: Sequence[Ending]) -> list[Intent]:
    """The intents to be written. One that was lost while the database was away comes with its ending."""
    told = [note for note in notes if isinstance(note, Intent)]
    late = [ending.intent for ending in endings if not ending.intent.written]
    return [intent for intent in dict.fromkeys([*told, *late]) if not intent.void]


def _is_there(ending: Ending, tried: Sequence[Intent]) -> bool:
    return ending.intent.written or ending.intent in tried


def run(connection: Connection, statement: Executable, rows: Iterable[Row]) -> None:
    """Say this of each of these rows, if there are any."""
    listed = list(rows)
    if listed:
        connection.execute(statement, listed)


def _call(call: Call) -> Row:
    return {
        "id": call.id,
        "sent_at": call.sent_at,
        "deployment": call.deployment,
        "model": call.model,
        "endpoint": call.endpoint.value,
        "items": call.items,
        "tokens_bound": call.tokens_bound,
        "price": call.price,
        "estimated": False,
    }


def _shares(call: Call) -> Iterator[Row]:
    for place, share in enumerate(call.shares):
        yield {"call_id": call.id, "place": place, **_payer(share.payer), "tokens_bound": share.tokens_bound}


def _settled(ending: Ending, sums: Sums) -> Row:
    call, settlement = ending.intent.call, ending.settlement
    assert settlement is not None  # noqa: S101 - those without are not written
    sums.settled(call, settlement)
    return {
        "of": call.id,
        "settled_at": ending.at,
        "tokens": sum(settlement.tokens),
        "estimated": settlement.estimated,
        "status": settlement.status,
    }


def _settled_shares(ending: Ending) -> Iterator[Row]:
    tokens = () if ending.settlement is None else ending.settlement.tokens
    for at, each in enumerate(tokens):
        yield {"of": ending.intent.call.id, "at": at, "tokens": each}


def _payer(payer: Payer) -> Row:
    account = payer.account
    return {
        "request_id": text(payer.request_id),
        "key_alias": text(account.alias),
        "key_hash": account.key,
        "team": text(account.team),
        "user": text(account.user),
        "end_user": text(payer.end_user),
        "tags": _json(payer.tags),
        "model_group": text(payer.model),
    }


def _request(note: Told, sums: Sums) -> Row:
    receipt = note.receipt
    sums.told(receipt)
    return {
        "id": note.id,
        "started_at": receipt.started_at,
        "latency": receipt.latency,
        **_payer(receipt.payer()),
        "endpoint": receipt.endpoint,
        "model": receipt.upstream_model,
        **receipt.counts._asdict(),
        "tokens_billed": receipt.tokens_billed,
        "tokens_unsettled": receipt.tokens_unsettled,
        "tokens_saved": receipt.tokens_saved,
        "cost": receipt.cost,
        "saved": receipt.saved,
        "status": receipt.status,
        "cache_status": receipt.cache_status,
        "cache_key": receipt.key,
        "error": receipt.error,
        "bytes_out": receipt.bytes_out,
    }


def _json(tags: Sequence[str]) -> str:
    return orjson.dumps([text(tag) for tag in tags]).decode()
