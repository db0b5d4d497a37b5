"""Networks that predict cameras from photos alone: a start where matching finds none, to be refined by the mapper.

Their packages and weights are the user's: none is a dependency, and nothing is fetched before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sparse3d.errors import UserError, did_you_mean
from sparse3d.pose.networks import depth_anything3, mapanything, vggt
from sparse3d.pose.networks.protocol import PoseNetwork, Prediction
from sparse3d.pose.networks.weights import Package, Published, check_license

__all__ = ["NETWORKS", "PoseNetwork", "Prediction", "pose_network"]


@dataclass(frozen=True)
class Entry:
    """A row of the table."""

    package: Package
    published: Published  # its weights, where the user names none
    load: Callable[[str, Published, str | Path | None], PoseNetwork]
    verified: bool  # this loader was run with the published weights


NETWORKS: dict[str, Entry] = {
    "da3-base": Entry(depth_anything3.PACKAGE, depth_anything3.BASE, depth_anything3.load, depth_anything3.VERIFIED),
    "vggt": Entry(vggt.PACKAGE, vggt.ONE_B, vggt.load, vggt.VERIFIED),
    "vggt-commercial": Entry(vggt.PACKAGE, vggt.COMMERCIAL, vggt.load, vggt.VERIFIED),
    "mapanything": Entry(mapanything.PACKAGE, mapanything.RESEARCH, mapanything.load, mapanything.VERIFIED),
    "mapanything-apache": Entry(mapanything.PACKAGE, mapanything.APACHE, mapanything.load, mapanything.VERIFIED),
}


def pose_network(name: str, weights: str | Path | None = None, *, accept_license: bool = False) -> PoseNetwork:
    """The network called `name`, its weights in memory.

    Args:
        name: In the table, as `da3-base`.
        weights: Hub id, folder or checkpoint of its own; None for the published weights of that name.
        accept_license: The user read and accepted the licence of weights that ask for it. Weights in a folder are the
            user's own matter.

    Raises:
        UserError: unknown name, licence not accepted, package missing, or weights that cannot be loaded.
    """
    if name not in NETWORKS:
        raise UserError(
            f"unknown pose network {name!r}{did_you_mean(name, NETWORKS)}; choose one of: {', '.join(NETWORKS)}"
        )
    entry = NETWORKS[name]
    known = [*(other.published for other in NETWORKS.values()), *depth_anything3.OTHERS]
    check_license(entry.published, weights, known, accept_license)
    return entry.load(name, entry.published, weights)
