"""The ledger: what was paid and what was saved, in SQL.

``tables`` is the schema and ``migrations`` its versions, ``database`` the one door to the SQL library. ``notes`` are
what is written down; a ``writer`` (one thread for each event loop) takes all that wait and has them ``posted`` in one
transaction; ``books`` is how the rest of the package sees it. ``usage`` and ``logs`` read.

Two kinds of rows, and sums of them: a *call* is money (an intent before it is sent, how it ended afterwards, and what
each payer bears), a *request* is a story (one for each receipt), and ``days`` holds what both come to.
"""
