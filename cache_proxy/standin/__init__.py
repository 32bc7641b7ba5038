"""A stand-in for api.jina.ai: deterministic, strict, and able to fail on command.

It is the tests' upstream, the one behind ``cache-proxy demo``, and a server of its own (``cache-proxy
standin``). It judges the proxy, so it shares nothing with it: its tables and rules are its own, written
from Jina's OpenAPI (version 2026.04.02.1816), from answers recorded in public, and from Jina's own
on-premises server, which was measured against the hosted API in July 2026.
"""

from .app import StandIn
from .delays import Delays
from .faults import Dropped, Fault
from .log import Call

__all__ = ["Call", "Delays", "Dropped", "Fault", "StandIn"]
