"""What the measurements against a real Redis need."""

from tests.integration.redis_servers import redis_program

__all__ = ["redis_program"]
