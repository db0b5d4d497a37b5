"""What the render fixer is trained to do: the truth from what few photos show of a view, at all levels of noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from sparse3d.models.own import save_own
from sparse3d.priors.networks.fixer import FORMAT, LARGE, MULTIPLE, PHOTOS, RIGHT, Fixed, Fixer, Sizes
from sparse3d.train.loop import Batch, TrainPlan
from sparse3d.train.shards import Shards
from sparse3d.train.sheet import sheet
from sparse3d.train.textures import choice, uniform

_PURE = 0.2  # share of the samples at t = 1: the regression
_HEAVIEST = 4.0  # weight of a sample at low noise, else 1/t
_WITHOUT = 0.15  # chance that one of the warped photos is withheld
_SHOWN = 6  # held-out samples on a sheet
_CHECKED = 6  # batches that held-out figures are the mean of


@dataclass(frozen=True)
class FixTask:
    """Data and sizes."""

    pairs: Sequence[Path]  # folders of shards to learn from
    heldout: Sequence[Path]  # folders of shards to measure on
    size: tuple[int, int] = (96, 96)  # height and width of the regions
    large: bool = False


class FixCrops:
    """Batches of regions of pairs. All of batch n is drawn from (seed, n)."""

    def __init__(self, shards: Shards, batch: int, size: tuple[int, int], seed: int) -> None:
        """
        Args:
            shards: Of pairs.
            batch: Samples in a batch.
            size: Height and width of the regions.
            seed: Of everything.
        """
        self._shards, self._batch, self._size, self._seed = shards, batch, size, seed

    def __getitem__(self, step: int) -> Batch:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
        parts = [_crop(self._shards.sample(step * self._batch + k), self._size, generator) for k in range(self._batch)]
        return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}


def _crop(sample: dict[str, Tensor], size: tuple[int, int], generator: torch.Generator) -> Batch:
    """A region of a pair, turned over and recoloured at random: known (16, H, W) and truth (3, H, W) in [0, 1]."""
    height, width = sample["truth"].shape[1:]
    top, left = (choice(generator, most - side + 1) for most, side in zip((height, width), size, strict=True))
    cut = lambda values: values[:, top : top + size[0], left : left + size[1]].float() / 255
    known, truth = cut(sample["known"]), cut(sample["truth"])
    if choice(generator, 2):
        known, truth = known.flip(-1), truth.flip(-1)
    if uniform(generator) < 0.3:
        order = torch.randperm(3, generator=generator)
        truth = truth[order]
        colors = [known[first : first + 3][order] for first in range(0, len(known), 4)]
        known = torch.cat([part for k, color in enumerate(colors) for part in (color, known[4 * k + 3 : 4 * k + 4])])
    for photo in range(PHOTOS):
        if uniform(generator) < _WITHOUT:
            known[4 + 4 * photo : 8 + 4 * photo] = 0
    return {"known": known, "truth": truth}


class FixerTask:
    """See `loop.Task`."""

    def __init__(self, given: FixTask, seed: int) -> None:
        """
        Raises:
            UserError: no data.
            ValueError: a size that the network cannot take.
        """
        if any(side % MULTIPLE for side in given.size):
            raise ValueError(f"regions of {given.size} pixels; both sides must be multiples of {MULTIPLE}")
        self.given = given
        self.sizes = LARGE if given.large else Sizes()
        torch.manual_seed(seed)
        self.network: nn.Module = Fixer(self.sizes)
        self._shards = Shards(list(given.pairs), "pairs", seed)
        self._checked = FixCrops(Shards(list(given.heldout), "pairs", 1), _SHOWN, given.size, 1)

    def batches(self, plan: TrainPlan) -> Dataset[Batch]:
        return FixCrops(self._shards, plan.batch, self.given.size, plan.seed)  # type: ignore[return-value]

    def loss(self, network: nn.Module, batch: Batch, step: int, plan: TrainPlan) -> tuple[Tensor, dict[str, float]]:
        generator = torch.Generator().manual_seed(plan.seed * 999_983 + step)
        truth = 2 * batch["truth"] - 1
        t = torch.rand(len(truth), generator=generator).clamp(min=0.02)
        t = torch.where(torch.rand(len(truth), generator=generator) < _PURE, 1.0, t).to(truth.device)
        noise = torch.randn(truth.shape, generator=generator).to(truth.device)
        level = t[:, None, None, None]
        found: Fixed = network((1 - level) * truth + level * noise, t, batch["known"])
        return fix_loss(found, truth, t)

    @torch.no_grad()
    def measure(self, network: nn.Module, device: torch.device) -> tuple[dict[str, float], Tensor]:
        network.eval()
        errors: dict[str, list[Tensor]] = {}
        rows: list[Tensor] = []
        for number in range(_CHECKED):
            batch = {name: value.to(device) for name, value in self._checked[number].items()}
            known, truth = batch["known"], batch["truth"]
            found: Fixed = network(torch.zeros_like(truth), torch.ones(len(truth), device=device), known)
            fixed, filled, trust = ((found.x0 + 1) / 2).clamp(0, 1), known[:, :3], known[:, 3]
            for name, picture in (("fixed", fixed), ("filled", filled)):
                error = ((picture - truth) ** 2).mean(1)
                errors.setdefault(name, []).append(error.flatten())
                errors.setdefault(f"{name} in holes", []).append(error[trust < 0.3])
                errors.setdefault(f"{name} where seen", []).append(error[trust >= 0.7])
            if number == 0:
                seen = trust[:, None].expand(-1, 3, -1, -1)
                certain = found.certain.sigmoid()[:, None].expand(-1, 3, -1, -1)
                parts = torch.cat([known[:, 4:7], filled, seen, fixed, certain, truth], 3)
                rows += list(parts.cpu())
        psnr = {name: float(-10 * torch.cat(parts).mean().clamp(min=1e-9).log10()) for name, parts in errors.items()}
        return {f"PSNR {name}": value for name, value in psnr.items()}, sheet(rows)

    def save(self, path: Path, network: nn.Module, facts: Mapping[str, Any]) -> None:
        save_own(path, FORMAT, network, self.sizes, facts)

    def key(self) -> dict[str, Any]:
        return {
            "network": FORMAT.name,
            "size": list(self.given.size),
            "large": self.given.large,
            "samples": len(self._shards),
        }


def fix_loss(found: Fixed, truth: Tensor, t: Tensor) -> tuple[Tensor, dict[str, float]]:
    """L1 + L2 of the picture and L1 of its slopes at three sizes, heavier at low noise; and of the certainty.

    Args:
        found: Of B pictures.
        truth: (B, 3, H, W) in [-1, 1].
        t: (B,) noise levels.
    """
    difference = found.x0 - truth
    weight = (1 / t).clamp(max=_HEAVIEST)
    each = (difference.abs() + difference**2).mean((1, 2, 3))
    slopes, smaller = torch.zeros_like(each), difference
    for _ in range(3):
        slopes = slopes + sum(smaller.diff(dim=dim).abs().mean((1, 2, 3)) for dim in (2, 3))
        smaller = F.avg_pool2d(smaller, 2)
    picture = (weight * (each + 0.5 * slopes)).mean()
    # certainty is that of the answer to pure noise, which is how confidence is asked for
    right = (difference.detach().abs().mean(1) / 2 < RIGHT).float()
    pure = (t >= 1).float()[:, None, None].expand_as(right)
    certain = (
        F.binary_cross_entropy_with_logits(found.certain, right, reduction="none") * pure
    ).sum() / pure.sum().clamp(min=1)
    figures = {"picture": picture, "certain": certain, "right": right.mean(), "squared": (difference**2).mean() / 4}
    return picture + 0.2 * certain, {name: float(value.detach()) for name, value in figures.items()}
