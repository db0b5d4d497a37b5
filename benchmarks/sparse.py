"""Few-view quality by the field's protocol: N training views, fixed test views, several scenes and seeds in one table.

    python benchmarks/sparse.py                                   # every set, 3, 6 and 9 views, the set's own cameras
    python benchmarks/sparse.py fern fox --views 3 --seeds 3 --set optimize.steps=2000 --baseline plain first
    python benchmarks/sparse.py fern --views 3 --poses estimated --output out/sheets
    python benchmarks/sparse.py fern fountain --views 6 --perturb 0.3 1
    python benchmarks/sparse.py fern --views 6 --leave-one-out    # what settings may be chosen by

A scene folder holds images/, a COLMAP model of all of them in sparse/0 and split.json with `test`, `train3`, `train6`, ... Cameras come from
the full model; sparse points are triangulated anew from the training views alone. Nothing of the test photos is used. 504 px is 1/8
resolution of LLFF (the originals are 4032 px). Scores are means over the test views, then over the scenes; ± is the standard deviation
over the seeds. Every run has a process of its own, whose peak of memory does not count what is needed to measure.

`--poses estimated` finds the cameras from the training photos alone, as recon does. The true cameras of the test views come into
that frame by the best similarity of the training cameras, with the estimated focal length; scores are then given twice, from these
cameras and from cameras aligned to the finished scene, as InstantSplat does. Photos without a camera are listed below the table.

`--perturb` turns every given camera, those of the test views too, by so many degrees about a random axis, and makes the focal length
that much per cent too long: what structure from motion may err by. Scores are given twice as well. With either, so are errors
of the training cameras to the set's own, before and after the optimization.

`--leave-one-out` measures on the training views alone: each is left out in turn, and the scene made without it.

`--baseline plain` adds 3DGS with the densification of 3DGS-MCMC, and `first` sparse3d 0.1.0; both are lists in harness/baselines.py,
which --preset and --set do not change but for `pose` and `renderer`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from harness.baselines import BASELINES, Method, methods
from harness.camera_errors import Perturbation
from harness.memory import in_fresh_process
from harness.photo_sets import DATA, SETS, folder_of, folds_of
from harness.sparse_run import Task, mean_values, measure, with_seed
from harness.sparse_table import Outcome, SparseTable

from sparse3d.errors import UserError
from sparse3d.metrics.lpips import HOW_TO_GET
from sparse3d.render import choose


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", default=SETS, help=f"names below {DATA}, or folders")
    parser.add_argument("--views", type=int, nargs="+", default=[3, 6, 9])
    parser.add_argument("--size", type=int, default=504, help="longer side, pixels; 504 is 1/8")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--poses", choices=("given", "estimated"), default="given")
    parser.add_argument(
        "--perturb",
        type=float,
        nargs=2,
        metavar=("DEG", "PERCENT"),
        help="errors of rotations and focal length of given cameras; 0 0 for none",
    )
    parser.add_argument(
        "--leave-one-out", action="store_true", help="measure on the training views, each left out once"
    )
    parser.add_argument("--baseline", nargs="+", choices=BASELINES, default=[], help="rows to compare with")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--output", type=Path, help="folder for a contact sheet of each run")
    options = parser.parse_args()
    if options.perturb and options.poses == "estimated":
        parser.error("--perturb is for given cameras: leave it out, or --poses estimated")
    if options.seeds < 1:
        parser.error("--seeds needs at least 1")
    return options


def tasks(options: argparse.Namespace, scene: Path, count: int, method: Method, seed: int) -> Iterator[Task]:
    """The runs of one seed: one, or one for each training view that is left out."""
    perturb = Perturbation(*options.perturb) if options.perturb else None
    for fold in folds_of(scene, count, options.leave_one_out):
        task = Task(scene, fold, options.size, method, options.poses == "estimated", perturb)
        sheet = options.output / sheet_name(options, task, count, seed) if options.output else None
        yield with_seed(replace(task, sheet=sheet), seed)


def sheet_name(options: argparse.Namespace, task: Task, count: int, seed: int) -> str:
    """File of a run's contact sheet: what sets it apart from the others of this call."""
    left_out = [Path(task.fold.held_out[0]).stem] if options.leave_one_out else []
    return "_".join([task.scene.name, str(count), task.method.name, f"seed{seed}", *left_out]) + ".png"


def outcome_of(options: argparse.Namespace, scene: Path, count: int, method: Method, notes: dict[str, None]) -> Outcome:
    """All runs of one row. What went wrong is added to the notes, each once."""
    seeds, missing = [], 0
    where = f"{scene.name}, {count} views"
    for seed in range(options.seeds):
        rows = []
        for task in tasks(options, scene, count, method, seed):
            try:
                result = in_fresh_process(measure, task)
            except UserError as error:
                notes[f"{where}, {method.name}: {error}"] = None
                return Outcome(scene.name, count, method.name, ())
            rows.append(result.values)
            missing = max(missing, len(result.left_out))
            notes.update(dict.fromkeys(f"{where}: no camera for {photo}" for photo in result.left_out))
        seeds.append(mean_values(rows))
    return Outcome(scene.name, count, method.name, tuple(seeds), missing)


def title(options: argparse.Namespace) -> str:
    """What all rows have in common."""
    poses = f"{options.poses} cameras" + (" with errors" if options.perturb else "")
    measured = "training views left out in turn" if options.leave_one_out else "test views"
    seeds = f"{options.seeds} seed{'s' * (options.seeds > 1)}"
    return f"{measured}, {poses}, {options.size} px, {options.preset} preset {' '.join(options.settings)}, {seeds}"


def main() -> None:
    """Prints a Markdown table."""
    options = arguments()
    compared = methods(options.preset, options.settings, options.baseline)
    print(f"renderer {choose(compared[0].config.renderer)}, {torch.get_num_threads()} threads, {os.cpu_count()} cores")
    table = SparseTable(title(options), exact=options.poses == "given" and not options.perturb)
    notes: dict[str, None] = {}
    for scene in map(folder_of, options.scenes):
        for count in options.views:
            if not folds_of(scene, count):
                notes[f"{scene.name}: its split.json has no train{count}"] = None
                continue
            for method in compared:
                table.add(outcome_of(options, scene, count, method, notes))
    table.means()
    if not table.has("lpips"):
        notes[HOW_TO_GET] = None
    print("\n" + "\n".join(f"- {note}" for note in notes) if notes else "")


if __name__ == "__main__":
    main()
