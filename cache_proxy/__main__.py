"""``python -m cache_proxy`` is ``cache-proxy``."""

from cache_proxy.cli import main

main(prog_name="cache-proxy")
