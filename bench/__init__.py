"""Measurements, side by side in one run: ``python -m bench``, or ``python -m bench NAME …`` for some of them.

Each scenario is a file with one function, ``rows``. A ratio is taken between things that ran in turns on the same
machine in the same minute; what a scenario can not measure here (no ``nginx``, no ``redis-server``) it says.
"""
