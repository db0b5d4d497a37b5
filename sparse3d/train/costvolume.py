"""What the cost-volume network is trained to do: depth, how far to trust it, and the look of the Gaussians that it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from sparse3d.geometry import invert_rigid
from sparse3d.init.costvolume import as_gaussians, depth_of
from sparse3d.init.depth_map import DepthMap
from sparse3d.init.networks.costvolume import FORMAT, LARGE, MULTIPLE, CostVolume, Estimate, Sizes
from sparse3d.init.surfels import surfels
from sparse3d.models.own import save_own
from sparse3d.render import device_of, render
from sparse3d.train.crops import DepthCrops
from sparse3d.train.loop import Batch, TrainPlan
from sparse3d.train.shards import Shards
from sparse3d.train.sheet import colored, sheet
from sparse3d.types import Cameras, Gaussians, View

RIGHT = 0.03  # relative error up to which a depth counts as right, as everywhere in init/
_LOOKS_FROM = 0.7  # share of the steps after which the Gaussians' looks are learned
_SHOWN = 6  # held-out samples on a sheet
_CHECKED = 4  # batches that held-out figures are the mean of


@dataclass(frozen=True)
class DepthTask:
    """Data and sizes."""

    scenes: Sequence[Path]  # folders of shards to learn from
    heldout: Sequence[Path]  # folders of shards to measure on
    size: tuple[int, int] = (128, 128)  # height and width of the regions
    large: bool = False


class CostVolumeTask:
    """See `loop.Task`."""

    def __init__(self, given: DepthTask, seed: int) -> None:
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
        self.network: nn.Module = CostVolume(self.sizes)
        self._shards = Shards(list(given.scenes), "scenes", seed)
        self._checked = DepthCrops(Shards(list(given.heldout), "scenes", 1), _SHOWN, given.size, self.sizes.planes, 1)

    def batches(self, plan: TrainPlan) -> Dataset[Batch]:
        return DepthCrops(self._shards, plan.batch, self.given.size, self.sizes.planes, plan.seed)  # type: ignore[return-value]

    def loss(self, network: nn.Module, batch: Batch, step: int, plan: TrainPlan) -> tuple[Tensor, dict[str, float]]:
        found = _asked(network, batch)
        loss, figures = depth_loss(found, batch["depth"], batch["depths"])
        if step >= _LOOKS_FROM * plan.steps:
            with torch.autocast(batch["image"].device.type, enabled=False):
                look = looks_loss(found, batch, step % len(batch["image"]))
            loss = loss + look
            figures["looks"] = float(look.detach())
        else:  # every part takes part in every step, or the optimizer's state would begin at different times
            loss = loss + 0 * found.looks.sum()
        return loss, figures

    @torch.no_grad()
    def measure(self, network: nn.Module, device: torch.device) -> tuple[dict[str, float], Tensor]:
        network.eval()
        totals: dict[str, float] = {}
        pictures: list[Tensor] = []
        for number in range(_CHECKED):
            batch = {name: value.to(device) for name, value in self._checked[number].items()}
            found = _asked(network, batch)
            for name, value in _figures(found, batch["depth"], batch["depths"]).items():
                totals[f"heldout {name}"] = totals.get(f"heldout {name}", 0.0) + value / _CHECKED
            pictures += _rows(found, batch) if number == 0 else []
        return totals, sheet(pictures)

    def save(self, path: Path, network: nn.Module, facts: Mapping[str, Any]) -> None:
        save_own(path, FORMAT, network, self.sizes, facts)

    def key(self) -> dict[str, Any]:
        return {
            "network": FORMAT.name,
            "size": list(self.given.size),
            "large": self.given.large,
            "samples": len(self._shards),
        }


def _asked(network: nn.Module, batch: Batch) -> Estimate:
    names = ("image", "K", "sources", "source_Ks", "to_sources", "depths")
    found: Estimate = network(*(batch[name] for name in names))
    return found


def _inverse(depth: Tensor, depths: Tensor) -> tuple[Tensor, Tensor]:
    """Where depths are between the far plane (0) and the near one (1), and which of them are within. (B, H, W) each"""
    far, near = (1 / depths[:, end, None, None] for end in (-1, 0))
    place = (1 / depth.clamp(min=1e-6) - far) / (near - far)
    return place, (depth > 0) & (place >= -1e-3) & (place <= 1 + 1e-3)


def depth_loss(found: Estimate, depth: Tensor, depths: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of the planes, L1 of 1/depth and of its slopes, and of the certainty.

    The planes' target is spread over the two planes around the truth. The certainty is that of being right within 3 %,
    everywhere: in the sky, and beyond the planes, nothing is.

    Args:
        found: Of B views.
        depth: (B, H, W) truth, 0 in the sky.
        depths: (B, D)
    """
    place, valid = _inverse(depth, depths)
    planes = depths.shape[1]
    small, small_valid = (
        x[:, 2::4, 2::4] for x in (place, valid)
    )  # a quarter of the size, at the pixel right of the middle
    at = ((1 - small) * (planes - 1)).clamp(0, planes - 1)
    low = at.floor().clamp(max=planes - 2)
    logs = found.scores.log_softmax(1)
    first = logs.gather(1, low.long()[:, None])[:, 0]
    second = logs.gather(1, low.long()[:, None] + 1)[:, 0]
    entropy = -((1 - (at - low)) * first + (at - low) * second)
    choice = (entropy * small_valid).sum() / small_valid.sum().clamp(min=1)
    error = (found.inverse - place).abs() * planes  # in planes
    share = valid.sum().clamp(min=1)
    near = (error.clamp(max=8) * valid).sum() / share
    slope = torch.zeros((), device=depth.device)
    for dim in (1, 2):
        both = valid & valid.roll(-1, dim)
        both = both.narrow(dim, 0, both.shape[dim] - 1)
        same = (place.diff(dim=dim).abs() * planes < 1) & both  # not across edges
        slope = slope + (
            (found.inverse.diff(dim=dim) - place.diff(dim=dim)).abs() * planes * same
        ).sum() / same.sum().clamp(min=1)
    right = (valid & (_relative(found, depth, depths) < RIGHT)).float()
    certain = F.binary_cross_entropy_with_logits(found.certain, right)
    loss = choice + 0.3 * near + 0.5 * slope + 0.5 * certain
    figures = {"choice": choice, "planes": near, "slope": slope, "certain": certain, "right": right.sum() / share}
    return loss, {name: float(value.detach()) for name, value in figures.items()}


def _relative(found: Estimate, depth: Tensor, depths: Tensor) -> Tensor:
    """Relative error of the depth. (B, H, W), large where there is no truth"""
    got = depth_of(found.inverse.detach(), depths[:, 0, None, None], depths[:, -1, None, None])
    return torch.where(depth > 0, (got - depth).abs() / depth.clamp(min=1e-6), 1e3)


def _figures(found: Estimate, depth: Tensor, depths: Tensor) -> dict[str, float]:
    """Shares of the pixels that are right within 3 %, all of them and those it is certain of; how many these are."""
    error, known = _relative(found, depth, depths), depth > 0
    right, certain = error < RIGHT, found.certain > 0
    return {
        "right": float(right[known].float().mean()),
        "right where certain": float(right[certain].float().mean()) if certain.any() else 0.0,
        "certain": float(certain.float().mean()),
        "median error": float(error[known].median()),
    }


def looks_loss(found: Estimate, batch: Batch, index: int) -> Tensor:
    """L1 between a source and the Gaussians of a view drawn from there, for what the surfels cover by themselves.

    Only the looks learn from it: the depth and its certainty are taken as they are.

    Args:
        found: Of the batch.
        index: Which view of the batch.
    """
    one = {name: value[index].float().cpu() for name, value in batch.items()}
    depths = one["depths"]
    depth = depth_of(found.inverse[index].detach().cpu(), depths[0], depths[-1])
    view = View("view", one["image"], one["K"], torch.eye(4))
    nothing = torch.zeros_like(depth, dtype=torch.long)
    certain = found.certain[index].detach().cpu().sigmoid()
    seen = surfels(DepthMap(view, depth, certain, nothing, nothing.bool(), float(depths[-1])), 2)
    target = one["sources"][0]
    draw = lambda looks: _drawn(as_gaussians(seen, looks, view), one)
    with torch.no_grad():
        covered = draw(torch.zeros_like(found.looks[index], device="cpu"))[1] > 0.5
    image, _ = draw(found.looks[index].cpu())
    return ((image - target).abs() * covered).sum() / (3 * covered.sum()).clamp(min=1)


def _drawn(gaussians: Gaussians, one: Batch) -> tuple[Tensor, Tensor]:
    """The first source's picture of Gaussians in the view's axes, and what they cover. (3, H, W), (H, W)"""
    device = device_of("auto")
    camera = Cameras(invert_rigid(one["to_sources"][:1]), one["source_Ks"][:1], *one["sources"].shape[2:])
    camera = Cameras(camera.c2w.to(device), camera.K.to(device), camera.height, camera.width)
    drawn = render(gaussians.to(device), camera, near_plane=0.1 * float(one["depths"][0]))
    return drawn.image[0].cpu(), drawn.alpha[0].cpu()


def _rows(found: Estimate, batch: Batch) -> list[Tensor]:
    """View, first source, true depth, found depth, certainty, error, side by side, for each view. (3, H, 6 W)"""
    place, valid = _inverse(batch["depth"], batch["depths"])
    rows = []
    for i in range(len(place)):
        error = (_relative(found, batch["depth"], batch["depths"])[i] / RIGHT / 2).clamp(0, 1) * valid[i]
        rows.append(
            torch.cat(
                [
                    batch["image"][i],
                    batch["sources"][i, 0],
                    colored(place[i]) * valid[i],
                    colored(found.inverse[i]),
                    found.certain[i].sigmoid().expand(3, -1, -1),
                    error.expand(3, -1, -1),
                ],
                2,
            ).cpu()
        )
    return rows
