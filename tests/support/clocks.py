"""Time for tests."""

T0 = 1_900_000_000.0


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, now: float = T0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        """Let time pass at once."""
        self.now += seconds
