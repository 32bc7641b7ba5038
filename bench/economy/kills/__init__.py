"""What a server that is killed in mid-flight costs: ``python -m bench.economy.kills``.

Servers of one process each share a store. Again and again one is killed (``SIGKILL``) while the upstream works for it,
and a fresh one takes its place. Whoever asks the others must be answered, rightly, and within the time of a lease; and
no item may be paid for twice, but for what the dead had paid for and not yet stored. The audit is that of
``bench.economy.books``, call by call; for its readers: docs/economy.md.
"""
