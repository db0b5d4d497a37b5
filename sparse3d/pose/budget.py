"""Time that a piece of work may take."""

from __future__ import annotations

import time


class Budget:
    """Seconds from now on."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Seconds that are left, 0 when none are."""
        return max(0.0, self._end - time.monotonic())

    @property
    def is_over(self) -> bool:
        """Nothing is left."""
        return self.left_s == 0.0
