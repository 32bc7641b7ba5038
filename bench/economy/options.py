"""The command line's say in the load."""

import argparse

from bench.economy.measure import Load

COUNT, QUICK, CALLERS = 3000, 200, 64
"""Requests of a run, of a quick one, and how many are asked at a time."""


def with_load(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser with the options of a load."""
    parser.add_argument("--quick", action="store_true", help="a load of a few seconds; its ratios mean less")
    parser.add_argument("--seed", type=int, default=1, help="another seed, another load and other delays")
    return parser


def load_of(options: argparse.Namespace) -> Load:
    """The load that these options ask for."""
    return Load(options.seed, QUICK if options.quick else COUNT, CALLERS)
