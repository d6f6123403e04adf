"""The last minute of one policy, second by second."""

from __future__ import annotations

__all__ = ["SECONDS", "SERIES", "Minute"]

SECONDS = 60
SERIES = ("ok", "failed", "rejected")


class Minute:
    """Counts per second in a ring. Time is handed in and never steps back; not safe by itself."""

    __slots__ = ("_rings", "error", "latest")

    def __init__(self, second: int) -> None:
        self.latest = second
        self.error: tuple[str, str] | None = None
        self._rings = {series: [0] * SECONDS for series in SERIES}

    def advance(self, second: int) -> None:
        """Go on to `second`; the seconds in between were silent."""
        for empty in range(max(self.latest + 1, second - SECONDS + 1), second + 1):
            for ring in self._rings.values():
                ring[empty % SECONDS] = 0
        self.latest = max(self.latest, second)

    def add(self, second: int, series: str) -> None:
        """Count one more in `second`."""
        self.advance(second)
        self._rings[series][self.latest % SECONDS] += 1

    def last(self, seconds: int, series: str) -> list[int]:
        """The counts of the last so many seconds, the present one last."""
        ring = self._rings[series]
        return [ring[at % SECONDS] for at in range(self.latest - seconds + 1, self.latest + 1)]
