"""What a run says, kept for the scene as well."""

from __future__ import annotations

from sparse3d.io.scene import SceneFolder
from sparse3d.progress import Event, Reporter, StageReporter


class Log:
    """Passes events on and keeps the warnings of each stage, which belong into the scene too."""

    def __init__(self, report: Reporter) -> None:
        self.report = report
        self.warnings: list[str] = []

    def __call__(self, event: Event) -> None:
        if event.kind == "warning":
            self.warnings.append(event.message)
        self.report(event)

    def stage(self, name: str) -> StageReporter:
        return StageReporter(name, self)

    def taken(self) -> list[str]:
        """The warnings since the last call."""
        warnings, self.warnings = self.warnings, []
        return warnings

    def skipped(self, scene: SceneFolder, stage: str, progress: StageReporter, message: str) -> None:
        """Says that a stage was done before, and again what it warned of."""
        progress.skipped(message)
        for warning in scene.facts(stage)["warnings"]:
            progress.warning(warning)
        self.taken()
