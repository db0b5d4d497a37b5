"""The training loop that all our networks share: AdamW, cosine rate, averaged weights, a CSV of the curve, and going on after an interruption.

Everything random in step n (its samples, its noise) is drawn from (seed, n), so that a run that was stopped and taken up again goes
through the same numbers as one that was not.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from sparse3d.errors import UserError
from sparse3d.io._atomic import replacing
from sparse3d.io.folders import output_folder
from sparse3d.io.images import write_image
from sparse3d.models.own import fast_bfloat16
from sparse3d.progress import StageReporter

Batch = dict[str, Tensor]
CURVE, CHECKPOINT, VERSION = "curve.csv", "checkpoint.pt", 1
_CLIP = 1.0  # of the gradient's norm
_DECAY = 1e-4  # of the weights
_SAVE_S = 120.0  # seconds between checkpoints
_STEADY = 10  # steps over which the average of the weights catches up at first


@dataclass(frozen=True)
class TrainPlan:
    """How long and how to train. What is saved in a checkpoint and must be the same to go on: all but `minutes`, `workers`, `device`."""

    steps: int = 10_000
    batch: int = 8
    rate: float = 4e-4  # of AdamW, reached after `warmup` steps, then falling to nothing as a cosine
    warmup: int = 200
    average: float = 0.999  # share that the averaged weights keep in a step
    seed: int = 0
    precision: str = "auto"  # float32, bfloat16, or auto: bfloat16 where the hardware multiplies it
    measure_every: int = 500  # steps between rows of the curve with held-out figures, and sample sheets
    row_every: int = 50  # steps between rows of the curve
    minutes: float | None = None  # this call stops after so many; the next one goes on
    workers: int = 0  # processes that prepare batches
    device: str = "auto"


class Task(Protocol):
    """What a network is trained to do."""

    network: nn.Module

    def batches(self, plan: TrainPlan) -> Dataset[Batch]:
        """Batch of each step, by its number."""
        ...

    def loss(self, network: nn.Module, batch: Batch, step: int, plan: TrainPlan) -> tuple[Tensor, dict[str, float]]:
        """What falls, and figures for the curve. Randomness comes from a generator seeded with `plan.seed` and `step`."""
        ...

    def measure(self, network: nn.Module, device: torch.device) -> tuple[dict[str, float], Tensor]:
        """Figures on held-out samples, and a sheet of them to look at (3, H, W)."""
        ...

    def save(self, path: Path, network: nn.Module, facts: Mapping[str, Any]) -> None:
        """Writes the weights as they ship."""
        ...

    def key(self) -> dict[str, Any]:
        """What of the task must be the same to go on with a checkpoint."""
        ...


def train(task: Task, plan: TrainPlan, folder: Path, facts: Mapping[str, Any], progress: StageReporter) -> Path:
    """Trains, or goes on with what `folder` holds.

    Args:
        task: Network, data and loss. Its network is trained in place.
        plan: How.
        folder: Gets curve.csv, samples-<step>.png, checkpoint.pt and weights.safetensors (the averaged ones).
        facts: What to record in the weights besides the plan.
        progress: Told each step.

    Returns:
        The weights.

    Raises:
        UserError: the folder holds a run with other settings, or a damaged checkpoint.
    """
    output_folder(folder)
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if plan.device == "auto" else plan.device)
    half = _half(plan.precision, device)
    network = task.network.to(device)
    averaged = deepcopy(network).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=_DECAY)
    key = {**task.key(), **{name: value for name, value in asdict(plan).items() if name not in _MAY_CHANGE}}
    begun, spent = _taken_up(folder, key, network, averaged, optimizer, device)
    curve = _Curve(folder / CURVE, begun)
    progress.start(f"on {device}, {'bfloat16' if half else 'float32'}", total=plan.steps)
    if begun:
        progress.note(f"going on at step {begun} of {plan.steps}")
    started = saved = time.monotonic()
    elapsed = lambda: spent + time.monotonic() - started
    done = begun

    def keep() -> None:
        _save(folder, key, done, elapsed(), network, averaged, optimizer)

    try:
        for step, batch in _batches(task, plan, begun, device):
            figures = _stepped(task, network, averaged, optimizer, batch, step, plan, half)
            if not math.isfinite(figures["loss"]):
                raise UserError(
                    f"the loss of step {step} is no number. Take up the last checkpoint with a lower --rate in another folder, or look at the data"
                )
            done = step + 1
            curve.add(figures)
            last = done == plan.steps
            measured: dict[str, float] = {}
            if done % plan.measure_every == 0 or last:
                measured, sheet = task.measure(averaged, device)
                write_image(folder / f"samples-{done:06d}.png", sheet)
            if done % plan.row_every == 0 or measured:
                curve.write(done, elapsed(), measured)
            progress.step(
                done, plan.steps, **{name: value for name, value in figures.items() if name in ("loss", "rate")}
            )
            if time.monotonic() - saved > _SAVE_S:
                keep()
                saved = time.monotonic()
            if plan.minutes is not None and time.monotonic() - started > 60 * plan.minutes and not last:
                break
    finally:  # Ctrl-C too: nothing that was learned is lost
        keep()
    weights = folder / "weights.safetensors"
    task.save(
        weights,
        averaged,
        {**facts, "plan": asdict(plan), "steps_done": done, "seconds": round(elapsed()), "figures": curve.last},
    )
    if done < plan.steps:
        progress.note(f"stopped after {plan.minutes:g} minutes at step {done}; the same command goes on from there")
    progress.done(f"{done} steps in {elapsed() / 60:.1f} minutes")
    return weights


_MAY_CHANGE = ("minutes", "workers", "device", "measure_every", "row_every")


def _half(precision: str, device: torch.device) -> bool:
    if precision not in ("auto", "float32", "bfloat16"):
        raise UserError(f"unknown precision {precision!r}; choose auto, float32 or bfloat16")
    return precision == "bfloat16" or (precision == "auto" and fast_bfloat16(device))


def _batches(task: Task, plan: TrainPlan, begun: int, device: torch.device) -> Iterator[tuple[int, Batch]]:
    steps = range(begun, plan.steps)
    loader = DataLoader(
        task.batches(plan),
        batch_size=None,
        sampler=steps,
        num_workers=plan.workers,
        pin_memory=device.type == "cuda",
        prefetch_factor=4 if plan.workers else None,
        multiprocessing_context="spawn" if plan.workers else None,
    )
    for step, batch in zip(steps, loader, strict=True):
        yield step, {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def _stepped(
    task: Task,
    network: nn.Module,
    averaged: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    step: int,
    plan: TrainPlan,
    half: bool,
) -> dict[str, float]:
    """One step of the optimizer."""
    rate = plan.rate * min(1.0, (step + 1) / max(1, plan.warmup)) * 0.5 * (1 + math.cos(math.pi * step / plan.steps))
    for group in optimizer.param_groups:
        group["lr"] = rate
    device = next(network.parameters()).device
    network.train()
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        loss, figures = task.loss(network, batch, step, plan)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
    optimizer.step()
    kept = min(plan.average, (step + 1) / (step + _STEADY))
    with torch.no_grad():
        for ours, theirs in zip(averaged.parameters(), network.parameters(), strict=True):
            ours.lerp_(theirs, 1 - kept)
    return {"loss": float(loss.detach()), "rate": rate, "gradient": float(norm), **figures}


class _Curve:
    """Means of the figures since the last row, as a CSV whose columns are those of the first rows."""

    def __init__(self, path: Path, begun: int) -> None:
        self._path, self._sums, self._count = path, dict[str, float](), 0
        self._rows: list[dict[str, str]] = []
        if begun and path.is_file():
            with path.open(newline="") as stream:
                self._rows = [row for row in csv.DictReader(stream) if int(row["step"]) <= begun]

    @property
    def last(self) -> dict[str, str]:
        """The latest row that has held-out figures, else the latest."""
        measured = [row for row in self._rows if len(row) == max(map(len, self._rows))]
        return measured[-1] if measured else {}

    def add(self, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def write(self, step: int, seconds: float, measured: Mapping[str, float]) -> None:
        means = {name: value / self._count for name, value in self._sums.items()}
        row = {"step": step, "seconds": round(seconds, 1), **means, **measured}
        self._rows.append(
            {name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in row.items()}
        )
        self._sums, self._count = {}, 0
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        with replacing(self._path) as temporary, temporary.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, names, restval="")
            writer.writeheader()
            writer.writerows(self._rows)


def _save(
    folder: Path,
    key: dict[str, Any],
    done: int,
    seconds: float,
    network: nn.Module,
    averaged: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    state = {"version": VERSION, "key": key, "done": done, "seconds": seconds}
    parts = {"network": network, "averaged": averaged, "optimizer": optimizer}
    with replacing(folder / CHECKPOINT) as temporary:
        torch.save({**state, **{name: part.state_dict() for name, part in parts.items()}}, temporary)


def _taken_up(
    folder: Path,
    key: dict[str, Any],
    network: nn.Module,
    averaged: nn.Module,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> tuple[int, float]:
    """Steps and seconds that the checkpoint of a folder has behind it, its state put in place; zeros where there is none.

    Raises:
        UserError: it is damaged, of another version of sparse3d, or of a run with other settings.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return 0, 0.0
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        version, found = state["version"], state["key"]
    except Exception as error:  # torch raises whatever its unpickler meets
        raise UserError(f"the checkpoint {path} is damaged ({error}). Delete it to begin anew") from error
    if version != VERSION:
        raise UserError(
            f"the checkpoint {path} is of version {version}, and this sparse3d reads version {VERSION}. Train in another folder"
        )
    differing = [f"{name}={found.get(name)}" for name in key if found.get(name) != key[name]]
    if differing:
        raise UserError(
            f"{folder} holds a run with other settings: {', '.join(differing)}. Give the same ones to go on, or another folder with -o"
        )
    network.load_state_dict(state["network"])
    averaged.load_state_dict(state["averaged"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["done"]), float(state["seconds"])
