"""What is paid for what is asked: ``python -m bench.economy``.

One number: the tokens that the upstream billed, divided by those it would have billed had each distinct item been
bought exactly once. 1.000 is the best there is. What an item is, and which query tokens could not be helped, is said in
``items`` and ``books``; what it is measured with, in ``load`` and ``topologies``. For its readers: docs/economy.md.
"""
