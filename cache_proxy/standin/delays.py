"""How long the stand-in waits before it answers."""

from dataclasses import dataclass

from .vectors import seed, share


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds from ``shortest`` to ``longest``, spread evenly over their logarithm: most answers are quick and some
    take very long. The same ``seed`` gives the same waits in the same order.
    """

    shortest: float
    longest: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.shortest <= self.longest:
            raise ValueError("the shortest delay must be above 0, and the longest no shorter")

    def of(self, call: int) -> float:
        """The wait of this call; they are numbered from 0."""
        return float(self.shortest * (self.longest / self.shortest) ** share(seed("delay", self.seed, call)))
