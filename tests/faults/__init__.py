"""Faults brought upon real servers under load, and what they cost. ``python -m tests.faults`` prints the table."""
