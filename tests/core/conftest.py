"""Properties take the time they need: a busy machine is no failure."""

from hypothesis import settings

settings.register_profile("core", deadline=None)
settings.load_profile("core")
