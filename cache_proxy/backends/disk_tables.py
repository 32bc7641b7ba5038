"""What the processes of one host share beside the values: the tables of leases and counters in ``cache.db``. Pure.

A row of theirs counts for ``seconds`` from ``from_time`` on, by the clock that runs since the host was started: all its
processes have it in common and nobody can set it (``time.monotonic``). A row from before the host was started anew lies
in the future, and so counts no more. What is damaged or planted counts for an hour at most.
"""

COUNTS = "from_time <= ? AND from_time + MIN(seconds, 3600.0) > ?"
"""Whether a row counts; takes the time twice."""

KEYS = {"Lease": "key", "Word": "key, owner", "Bucket": "name, number", "Inside": "name, ticket"}
"""The tables, and what their rows are found by. Each is its own index: a batch touches few pages."""

_TYPES = {
    "Lease": {"key": "BLOB", "owner": "BLOB"},
    "Word": {"key": "BLOB", "owner": "BLOB", "word": "BLOB"},
    "Bucket": {"name": "BLOB", "number": "INTEGER"},
    "Inside": {"name": "BLOB", "ticket": "BLOB"},
}
_COLUMNS = {table: {**types, "from_time": "REAL", "seconds": "REAL"} for table, types in _TYPES.items()}

MAKE = tuple(
    f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(map(' '.join, columns.items()))}, PRIMARY KEY ({KEYS[table]}))"
    " WITHOUT ROWID"
    for table, columns in _COLUMNS.items()
)

# Nothing but names from above goes into a statement.
ALL = {table: f"SELECT {', '.join(columns)} FROM {table}" for table, columns in _COLUMNS.items()}  # noqa: S608
ADD = {
    table: f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
    for table, columns in _COLUMNS.items()
}

_LAPSED = f"({COUNTS}) IS NOT TRUE"

ANY_LAPSED = {table: f"SELECT EXISTS (SELECT 1 FROM {table} WHERE {_LAPSED})" for table in KEYS}  # noqa: S608
FORGET_LAPSED = {
    table: f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {_LAPSED} LIMIT ?)"  # noqa: S608
    for table, key in KEYS.items()
}
