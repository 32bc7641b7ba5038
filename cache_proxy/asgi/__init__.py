"""The HTTP door: a pure ASGI middleware, and the server, which is that middleware round an empty app."""
