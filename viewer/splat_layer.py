"""The splats of a page: which Gaussians, in which colours, cut to which box. Changed from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
import viser
from torch import Tensor

from sparse3d.render import Draw, Look, drawer
from sparse3d.types import Gaussians
from sparse3d.viewer.arrays import Splats, splats_from_gaussians
from sparse3d.viewer.placement import Placement

CHUNK_GAUSSIANS = 300_000  # one message each: the page fills in steps instead of at once

Box = tuple[Tensor, Tensor]  # lower and upper corner, (3,) each, world units
Colours = Callable[[Gaussians], Tensor]  # (N, 3) in [0, 1]


class SplatLayer:
    """The nodes `/splats/0`, `/splats/1`, ... of at most 300k Gaussians each."""

    def __init__(self, server: viser.ViserServer, placement: Placement, max_gaussians: int) -> None:
        self._server, self._placement, self._max = server, placement, max_gaussians
        self._lock = threading.RLock()
        self._gaussians = Gaussians.joined([])
        self._box: Box | None = None
        self._colours: Colours | None = None
        self._handles: list[viser.GaussianSplatHandle] = []
        self.drawn = 0  # how many Gaussians the page has
        self.on_change: list[Callable[[], None]] = []  # called after each change
        server.scene.add_frame("/splats", show_axes=False)

    @property
    def all(self) -> Gaussians:
        """The Gaussians, also those outside of the box."""
        return self._gaussians

    @property
    def box(self) -> Box | None:
        """What the scene is cut to; None: it is not."""
        return self._box

    def cropped(self) -> Gaussians:
        """The Gaussians whose centres are in the box."""
        with self._lock:
            return self._gaussians if self._box is None else self._gaussians[inside(self._gaussians, self._box)]

    def draw(self, look: Look) -> Draw:
        """Draws what the page shows, with our own renderer."""
        gaussians = self.cropped()
        if len(gaussians) == 0:  # a single one that cannot be seen: renderers need one
            gaussians = self._gaussians[:1]
            gaussians = Gaussians(*gaussians.values()[:3], torch.full((len(gaussians),), -30.0), gaussians.sh)
        return drawer(gaussians, look)

    def show(self, gaussians: Gaussians) -> None:
        """Other Gaussians in the same world."""
        self._change(lambda: setattr(self, "_gaussians", gaussians))

    def colour_by(self, colours: Colours | None) -> None:
        """Other colours; None: those of the Gaussians, seen from nowhere in particular."""
        self._change(lambda: setattr(self, "_colours", colours))

    def crop(self, box: Box | None) -> None:
        """Leaves out what lies outside of a box; None: nothing."""
        self._change(lambda: setattr(self, "_box", box))

    def _change(self, change: Callable[[], None]) -> None:
        with self._lock:
            change()
            shown = self.cropped()
            colours = None if self._colours is None else self._colours(shown)
            splats = splats_from_gaussians(shown, self._placement, self._max, colours)
            self._send(splats)
            self.drawn = len(splats)
        for callback in self.on_change:
            callback()

    def _send(self, splats: Splats) -> None:
        # viser itself leaves out what is smaller than a pixel or so: opacity * det(covariance in pixels + 0.3) < 0.25
        starts = range(0, len(splats), CHUNK_GAUSSIANS)
        for number, start in enumerate(starts):
            part = splats.chunk(start, CHUNK_GAUSSIANS)
            arrays = (part.centers, part.covariances, part.rgbs, part.opacities)
            if number < len(self._handles):
                self._handles[number].set_gaussians(*arrays)
            else:
                self._handles.append(self._server.scene.add_gaussian_splats(f"/splats/{number}", *arrays))
        while len(self._handles) > len(starts):
            self._handles.pop().remove()


def inside(gaussians: Gaussians, box: Box) -> Tensor:
    """Which centres are in a box. (N,) bool"""
    lower, upper = (corner.to(gaussians.means) for corner in box)
    return ((gaussians.means >= lower) & (gaussians.means <= upper)).all(dim=1)
