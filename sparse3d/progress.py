"""One stream of progress events, read by the terminal, the viewer and the log alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Event:
    """What a stage says while it works.

    `start` opens a stage, `step` moves it (`current` of `total`, with measured `values` such as loss),
    `note` and `warning` carry a message, `done` closes it, `skipped` says that it was already done.
    """

    stage: str
    kind: Literal["start", "step", "note", "warning", "done", "skipped"]
    message: str = ""
    current: int = 0
    total: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)


Reporter = Callable[[Event], None]


def silent(event: Event) -> None:
    """A reporter that says nothing."""


@dataclass(frozen=True)
class StageReporter:
    """The events of one stage, without writing its name each time."""

    stage: str
    report: Reporter = silent

    def start(self, message: str = "", total: int | None = None) -> None:
        """Opens the stage; `total` is the number of steps when it is known."""
        self.report(Event(self.stage, "start", message, total=total))

    def step(self, current: int, total: int | None = None, message: str = "", **values: float) -> None:
        """Moves the stage to step `current` of `total`."""
        self.report(Event(self.stage, "step", message, current, total, values))

    def note(self, message: str) -> None:
        """Says something worth knowing."""
        self.report(Event(self.stage, "note", message))

    def warning(self, message: str) -> None:
        """Says something that may need the user's attention."""
        self.report(Event(self.stage, "warning", message))

    def done(self, message: str = "") -> None:
        """Closes the stage."""
        self.report(Event(self.stage, "done", message))

    def skipped(self, message: str = "") -> None:
        """Says that an earlier run already did this stage."""
        self.report(Event(self.stage, "skipped", message))
