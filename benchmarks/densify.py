"""What drawn views are worth: held-out quality with and without densification, and what a perfect and a useless prior do.

    python benchmarks/densify.py fern fountain apartment_walk fox --prior none classical
    python benchmarks/densify.py room --prior none classical oracle noise --seeds 3

Cameras are the sets' own, 504 px, as in sparse.py. `room` are the photos of examples/, of which `oracle` draws any view by the ray caster that
made them, `oracle0.1` with noise of that deviation over 8 x 8 pixels, another in each view; `noise` draws noise and is sure of it.

*kept* are views that were accepted, *uncovering* those that took part in the second initialization.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from harness.contact_sheet import frame_sheet
from harness.drawn_views import Outcome, prior_of, run
from harness.photo_sets import DATA, fold_of, with_given_cameras
from harness.room import room
from harness.tables import Table

from sparse3d.config import load_config
from sparse3d.densify.densify import Densified
from sparse3d.init.initialize import initialize
from sparse3d.io.images import write_image
from sparse3d.progress import StageReporter

SIZE = 504
COLUMNS = (
    "scene",
    "views",
    "prior",
    "PSNR",
    "SSIM",
    "kept",
    "uncovering",
    "agreement",
    "densify s",
    "optimize s",
    "Gaussians",
)


def sheet(densified: Densified, path: Path) -> None:
    """Each drawn view beside its confidence."""
    frames = []
    for verdict in densified.verdicts:
        view = verdict.view
        assert view.confidence is not None
        label = f"{view.name} {verdict.agreement:.2f} new {100 * verdict.new:.0f} % {'' if not verdict.why_not else 'left out'}"
        frames += [(label, view.image), ("confidence", view.confidence.expand(3, -1, -1))]
    write_image(path, frame_sheet(frames, columns=6))


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="+", help=f"room, or names below {DATA}")
    parser.add_argument("--views", type=int, nargs="+", default=[3])
    parser.add_argument("--prior", nargs="+", default=["none", "classical"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--output", type=Path, help="folder for contact sheets of the drawn views")
    options = parser.parse_args()
    base = load_config(options.preset, options.settings)
    table = Table(f"given cameras, {SIZE} px, {' '.join([options.preset, *options.settings])}", COLUMNS)
    for name in options.scenes:
        for count in options.views:
            if name == "room":
                training, test = room(count, SIZE, base)
            else:
                loaded = with_given_cameras(DATA / name, fold_of(DATA / name, count), SIZE, base)
                training, test = loaded.training, loaded.test
            first = initialize(training, base.init, StageReporter("init"), torch.Generator().manual_seed(base.seed))
            for prior in options.prior:
                found = [
                    run(training, test, first, prior_of(prior), replace(base, seed=seed))
                    for seed in range(options.seeds)
                ]
                table.row(name, str(count), prior, *cells(found))
                if options.output is not None and found[0].densified is not None:
                    sheet(found[0].densified, options.output / f"{name}_{count}_{prior}.png")


def cells(found: Sequence[Outcome]) -> list[str]:
    """Means over seeds, with the standard deviation of scores."""

    def spread(name: str, digits: int) -> str:
        values = [outcome.scores[name] for outcome in found]
        text = f"{statistics.mean(values):.{digits}f}"
        return text if len(values) == 1 else f"{text} ± {statistics.stdev(values):.{digits}f}"

    done = found[0].densified
    kept = ["-"] * 3
    if done is not None:
        uncovering = 0 if done.first is None else sum(found.view.generated for found in done.first.maps)
        agreement = statistics.mean(verdict.agreement for verdict in done.verdicts)
        kept = [f"{len(done.views)} of {len(done.verdicts)}", str(uncovering), f"{agreement:.2f}"]
    seconds = [f"{statistics.mean(outcome.seconds[i] for outcome in found):.1f}" for i in (0, 1)]
    return [spread("psnr", 2), spread("ssim", 3), *kept, *seconds, f"{found[0].gaussians:,}"]


if __name__ == "__main__":
    main()
