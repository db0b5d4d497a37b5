"""What a prior is asked and what it answers. A prior draws views that no photo shows.

Every prior gets the same question, a `ViewQuery`: photos with cameras, the cameras to draw, and what the scene so far looks like from
them, with trust. Those that understand cameras use them; all others are guided by the renders. So a prior is exchanged by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sparse3d.shapes import check_shapes
from sparse3d.types import Cameras

OnStep = Callable[[int, int], bool]  # called with (calls done, calls in all); False stops


class Stopped(Exception):
    """`on_step` returned False: nothing was drawn."""


@dataclass(frozen=True)
class ViewQuery:
    """Which views to draw, and what is known. All pictures are of one size H x W, sRGB in [0, 1], float32."""

    cond_rgb: Tensor  # (C, 3, H, W) photos, at least one
    cond_cams: Cameras  # C
    target_cams: Cameras  # T, of size H x W too
    ordered: bool = True  # neighbours in the list are neighbours in space: a path
    render_rgb: Tensor | None = None  # (T, 3, H, W) the scene so far; a photo where a target is one
    render_conf: Tensor | None = None  # (T, 1, H, W) in [0, 1], how far the render may be trusted; 1 all over: keep it
    render_depth: Tensor | None = None  # (T, 1, H, W) world units, 0 where there is none
    cond_depth: Tensor | None = None  # (C, 1, H, W) of the photos, world units, 0 where there is none
    prompt: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = check_shapes(cond_rgb=(self.cond_rgb, "C 3 H W"))
        height, width = sizes["H"], sizes["W"]
        if sizes["C"] != len(self.cond_cams):
            raise ValueError(f"{sizes['C']} photos for {len(self.cond_cams)} cameras; give one camera for each")
        for name, cameras in (("cond_cams", self.cond_cams), ("target_cams", self.target_cams)):
            if (cameras.height, cameras.width) != (height, width):
                raise ValueError(
                    f"{name} are for {cameras.height}x{cameras.width} pictures, but cond_rgb is {height}x{width}; scale one of them"
                )
        _check_maps(self, len(self.target_cams), sizes["C"], height, width)

    def __len__(self) -> int:
        """How many views are asked for."""
        return len(self.target_cams)

    @property
    def known(self) -> Tensor:
        """Which targets are known as they are, because all of their render is trusted. (T,) bool"""
        if self.render_conf is None:
            return torch.zeros(len(self), dtype=torch.bool)
        return (self.render_conf >= 1).flatten(1).all(1)

    def targets(self, index: Tensor) -> ViewQuery:
        """The same question for some of the targets, in the order of `index` (long)."""
        cameras = self.target_cams
        chosen = Cameras(cameras.c2w[index], cameras.K[index], cameras.height, cameras.width)
        rgb, conf, depth = (_taken(values, index) for values in (self.render_rgb, self.render_conf, self.render_depth))
        return replace(self, target_cams=chosen, render_rgb=rgb, render_conf=conf, render_depth=depth)

    def nearest_photos(self, most: int) -> ViewQuery:
        """The question with at most so many photos: those nearest to some target, in their order."""
        if len(self.cond_cams) <= most:
            return self
        apart = torch.cdist(self.cond_cams.c2w[:, :3, 3], self.target_cams.c2w[:, :3, 3]).amin(1)
        chosen = apart.argsort()[:most].sort().values
        cameras = self.cond_cams
        kept = Cameras(cameras.c2w[chosen], cameras.K[chosen], cameras.height, cameras.width)
        return replace(self, cond_rgb=self.cond_rgb[chosen], cond_cams=kept, cond_depth=_taken(self.cond_depth, chosen))


def _taken(values: Tensor | None, index: Tensor) -> Tensor | None:
    return None if values is None else values[index]


def _check_maps(query: ViewQuery, targets: int, conditions: int, height: int, width: int) -> None:
    for name, count, channels in (
        ("render_rgb", targets, 3),
        ("render_conf", targets, 1),
        ("render_depth", targets, 1),
        ("cond_depth", conditions, 1),
    ):
        value = getattr(query, name)
        needed = (count, channels, height, width)
        if value is not None and tuple(value.shape) != needed:
            raise ValueError(f"{name} has shape {tuple(value.shape)}, needed {needed}")
    if (query.render_rgb is None) != (query.render_conf is None):
        raise ValueError("render_rgb and render_conf belong together; give both or neither")


@dataclass(frozen=True)
class Provenance:
    """Who drew a view: kept with the scene, for it says under which licence its pictures are."""

    prior: str
    weights: str | None  # hub id or folder; None where there are none
    licence: str
    seed: int
    calls: int = 0  # of the network, for all views of the answer
    seconds: float = 0.0


@dataclass(frozen=True)
class ViewSamples:
    """Drawn views with how far each pixel of them may be trusted, by the prior's own account."""

    rgb: Tensor  # (T, 3, H, W) float32, sRGB in [0, 1]
    conf: Tensor  # (T, 1, H, W) in [0, 1]
    meta: Provenance

    def __post_init__(self) -> None:
        check_shapes(rgb=(self.rgb, "T 3 H W"), conf=(self.conf, "T 1 H W"))

    def __len__(self) -> int:
        return self.rgb.shape[0]


@dataclass(frozen=True)
class PriorCaps:
    """What a prior can take, needs and permits."""

    name: str
    licence: str
    commercial: bool  # False: neither weights nor pictures may be used commercially
    weights: str | None  # hub id or local folder; None: needs none
    multiple: int  # height and width are multiples of it
    frames: tuple[
        int, int, int
    ]  # fewest, most, step: views in one call (Wan 5, 81, 4; SVD 25, 25, 1; pictures one by one 1, 1, 1)
    max_cond: int  # photos
    uses: frozenset[str]  # of {"cameras", "render", "prompt"}
    score: bool = False  # implements ScorePrior
    min_vram_gb: float = 0.0  # with offloading; 0: runs on a CPU
    verified: bool = False  # someone ran it with the published weights
    pixels: int = 0  # height * width that it was trained at; 0: any
    seconds: float = 0.0  # of one call, where published or measured; 0: not known
    seconds_on: str = ""  # on what machine, and who says so


@runtime_checkable
class ViewPrior(Protocol):
    """Something that draws views."""

    @property
    def caps(self) -> PriorCaps:
        """What it can take."""
        ...

    def generate(
        self, query: ViewQuery, *, strength: float = 1.0, steps: int | None = None, on_step: OnStep | None = None
    ) -> ViewSamples:
        """Draws the targets of a query that fits `caps`.

        Args:
            query: Of a size that `caps.multiple` divides, with as many targets as `caps.frames` allows and at most `caps.max_cond` photos.
            strength: Where the sampling starts, in (0, 1]: 1 from noise (guided by the renders), less from the noised renders (SDEdit).
            steps: Of the sampler; the prior's own number when None.
            on_step: Told (calls done, calls in all) after each call of the network; False stops.

        Raises:
            Stopped: `on_step` said so.
        """
        ...


class LoraHandle(Protocol):
    """A low-rank addition to a frozen network that can be trained and switched."""

    def parameters(self) -> list[Tensor]:
        """What is trained."""
        ...

    def on(self) -> None:
        """`predict_x0` goes through the addition."""
        ...

    def off(self) -> None:
        """`predict_x0` is that of the frozen network, exactly."""
        ...


class BoundScore(Protocol):
    """A prior with its conditions encoded: what score losses need, whatever its noise schedule is called."""

    def encode(self, rgb: Tensor, *, grad: bool) -> Tensor:
        """(n, 3, H, W) in [0, 1] -> (n, c, h, w) latents; pixel priors: the same."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, 3, H, W)"""
        ...

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Of z_t = alpha z_0 + sigma noise, for t in [0, 1] with 1 all noise."""
        ...

    def predict_x0(self, z_t: Tensor, t: Tensor, idx: Tensor, *, guidance: float | None = None) -> Tensor:
        """Mean of z_0 given z_t, for targets `idx` (n,) of the query."""
        ...

    def lora(self) -> LoraHandle | None:
        """For variational score distillation; None where the network takes none."""
        ...


@runtime_checkable
class ScorePrior(ViewPrior, Protocol):
    """A prior whose score is at hand."""

    def bind(self, query: ViewQuery) -> BoundScore:
        """Encodes the conditions once."""
        ...
