"""`sparse3d batch`: many scenes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparse3d.cli.console import note, print_json
from sparse3d.cli.settings import Poses, Preset, Quiet, Settings
from sparse3d.errors import UserError

if TYPE_CHECKING:
    from sparse3d.batch.engine import Engine
    from sparse3d.batch.job import Job
    from sparse3d.batch.run import Todo


def batch(
    roots: Annotated[
        list[str],
        typer.Argument(
            help="Folders whose folders of photos (or videos) become scenes, .csv or .jsonl manifests; - reads one scene a line from stdin.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", help="Folder of the scene folders and batch.json, or a URL as s3://bucket/scenes."
        ),
    ] = "scenes",
    preset: Preset = "balanced",
    poses: Poses = None,
    holdout: Annotated[int, typer.Option(min=0, help="Keep every Nth photo aside and measure on it. 0: none.")] = 0,
    settings: Settings = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            "-j",
            min=1,
            help="Scenes at a time; by cores, GPUs and memory when left out.",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help="local, or ray: a Ray cluster.")] = "local",
    address: Annotated[
        str, typer.Option(help="Of the Ray cluster: auto, ray://host:10001, or local to start one here.")
    ] = "auto",
    cpus: Annotated[int, typer.Option(min=1, help="Ray: cores that a scene asks for.")] = 2,
    gpus: Annotated[float, typer.Option(min=0, help="Ray: GPUs that a scene asks for; may be a share.")] = 0.0,
    ship: Annotated[
        bool,
        typer.Option("--ship", help="Ray: send photos along and bring scenes back, for nodes without a shared disk."),
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.01, help="Minutes a scene may take.", show_default=False)
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Run so many scenes at most.", show_default=False)] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Only every Nth scene, from the Ith on: one share of several machines.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Leave out scenes that are done.")] = True,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run scenes again that failed before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    plan: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Run 3 of the scenes that are left, then say what N scenes would take.",
            show_default=False,
        ),
    ] = None,
    quiet: Quiet = False,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON line on stdout for each scene that ends, and one for all.")
    ] = False,
) -> None:
    """Make many scenes, several at a time. One that fails stops no other.

    A second run does what is missing. Exit code 3: some scenes failed; why stands in batch.json.
    """
    from sparse3d.batch.find import Defaults, find_jobs, jobs_of_lines
    from sparse3d.batch.find import shard as shard_of
    from sparse3d.batch.remote import is_url
    from sparse3d.batch.run import todo

    if engine not in ("local", "ray"):
        raise UserError(f"unknown engine {engine!r}; choose one of: local, ray")
    defaults = Defaults(output, preset, tuple(settings or ()), str(poses or ""), holdout)
    if roots == ["-"]:
        jobs = jobs_of_lines(sys.stdin.read(), defaults)
    else:
        jobs = find_jobs([Path(root) for root in roots], defaults)
    suffix = ""
    if shard is not None:
        jobs, suffix = shard_of(jobs, shard), f"-{shard.replace('/', 'of')}"
    # what becomes of scenes that go to a URL is written here
    folder = Path(f"{output.rstrip('/').rpartition('/')[2]}.batch") if is_url(output) else Path(output)
    state = folder / f"batch{suffix}.json"
    work = todo(jobs, state, resume=resume, retry_failed=retry_failed, limit=3 if plan else limit)
    if dry_run:
        _dry_run(work, json)
        return
    jobs = [job for job, _ in work.run.values()]
    timeout_s = None if timeout is None else 60 * timeout
    if work.done and not quiet:
        note(f"{len(work.done)} scenes are done already")
    if work.failed and not quiet:
        note(f"{len(work.failed)} scenes failed before and are left out; --retry-failed runs them again")
    if engine == "ray":
        from sparse3d.batch.ray_engine import RayEngine

        runner: Engine = RayEngine(address, cpus, gpus, ship, timeout_s)
    else:
        from sparse3d.batch.run import local_engine

        runner = local_engine(jobs, workers, timeout_s)
    _run(work, runner, state, plan, quiet, json)


def _run(work: Todo, runner: Engine, state: Path, plan: int | None, quiet: bool, json: bool) -> None:
    from sparse3d.batch.job import Outcome
    from sparse3d.batch.run import batch as run
    from sparse3d.cli.batch_table import table

    with table(len(work.run), quiet) as shown:

        def ended(job: Job, outcome: Outcome) -> None:
            shown.ended(job.name, outcome)
            if json:
                print_json({"scene": job.output, "name": job.name, **vars(outcome)})

        counts = run(work, runner, shown.progress, ended)
    summary = {"batch": str(state), **counts}
    if plan is not None:
        from sparse3d.batch.plan import plan_of

        planned = plan_of(work.record, list(work.run), plan)
        summary["plan"] = planned.as_dict()
        if not json:
            note(planned.text())
    if json:
        print_json(summary)
    else:
        typer.echo(state)
    if not quiet:
        note(", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing to do")
    if counts.get("failed") or counts.get("stopped"):
        raise typer.Exit(3)


def _dry_run(work: Todo, json: bool) -> None:
    """What would be done with each scene."""
    rows = [(name, "run") for name in work.run]
    rows += [(name, "done already") for name in work.done] + [(name, "failed before") for name in work.failed]
    for name, what in rows:
        if json:
            print_json({"name": name, "would": what, **(work.run[name][0].as_dict() if name in work.run else {})})
        else:
            typer.echo(
                f"{what:<14} {name}" + (f"  from {', '.join(work.run[name][0].inputs)}" if name in work.run else "")
            )
