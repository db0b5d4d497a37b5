"""Which drawn views to keep, and how far to trust each of their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.init.depth_map import DepthMap
from sparse3d.kernels.warp import Warp
from sparse3d.optimize.exposure import weighted_median
from sparse3d.types import View

REPEATS = "it shows nothing that the photos do not show"

_SEEN = 0.5  # validity from which a pixel is held against the photos
_COLOR = 0.1  # difference of colours at which a pixel's agreement has fallen to 1/e
_WINDOW = 5  # pixels, odd: colours are compared as means over it, for warps are off by a fraction of a pixel
_LEAST_SEEN = 0.1  # share of a view that photos have to show, or nothing speaks for it
_LEAST_AGREEMENT = 0.5  # mean over what photos show
_LEAST_NEW = 0.01  # share of a view that no photo shows, or it only repeats them
_MOST_GAIN = 0.3  # natural logarithm: a view that is brighter or darker by more is not made up for
_BESIDE_PHOTOS = 0.2  # what a drawn pixel counts where a photo shows the same surface
_ALONE = 0.25  # and where no other view confirms it
_SURE = (0.04, 0.96)  # colours that are neither noise nor clipped


@dataclass(frozen=True)
class Verdict:
    """What is thought of one drawn view."""

    view: View  # its picture in the photos' colours, with its confidence
    agreement: float  # mean agreement with the photos where they show the same surface, in [0, 1]
    new: float  # share of the picture that no photo shows and the prior stands for
    why_not: str = ""  # empty: kept


def judged(view: View, conf: Tensor, seen: Warp) -> Verdict:
    """A drawn view held against what photos show of it.

    The confidence of a pixel is the product of the prior's own, of its agreement with the photos, exp(-(difference / 0.1)^2), and of 0.2 where
    they show it: a drawn view never outweighs a photo. Where they show nothing, the agreement is the view's mean.

    Args:
        view: As the prior drew it; of the size of the rest.
        conf: (H, W) the prior's own confidence.
        seen: The photos, warped to this view.

    Returns:
        The view with colours that are brought to the photos' by a gain per channel, at most e^0.3, and its confidence.
    """
    certain = seen.validity > _SEEN
    share = float(certain.float().mean())
    if share < _LEAST_SEEN:
        why = f"the photos show {100 * share:.0f} % of it, so nothing speaks for it (needed {100 * _LEAST_SEEN:.0f} %)"
        return Verdict(_with(view, view.image, torch.zeros_like(conf)), 0.0, 0.0, why)
    image = (view.image / gain(view.image, seen)[:, None, None]).clamp(0, 1)
    agreement = torch.exp(-((_difference(image, seen.color, certain) / _COLOR) ** 2))
    mean = float(agreement[certain].mean())
    shown = (seen.validity / _SEEN).clamp(0, 1)
    trust = conf * (shown * _BESIDE_PHOTOS * agreement + (1 - shown) * mean)
    new = float((conf * (1 - shown) > _ALONE).float().mean())
    why = ""
    if mean < _LEAST_AGREEMENT:
        why = f"it agrees with the photos by {mean:.2f} where they show the same, needed {_LEAST_AGREEMENT:g}"
    elif new < _LEAST_NEW:
        why = REPEATS
    return Verdict(_with(view, image, trust), mean, new, why)


def gain(image: Tensor, seen: Warp) -> Tensor:
    """How much brighter a drawn picture is than the photos in each channel: 1 where it cannot be told. (3, H, W) -> (3,)"""
    mean = (image + seen.color) / 2
    sure = (seen.validity > _SEEN) & ((mean > _SURE[0]) & (mean < _SURE[1])).all(0)
    ours, theirs = image[:, sure].T.clamp(min=1e-3), seen.color[:, sure].T.clamp(min=1e-3)
    if len(ours) == 0:
        return torch.ones(3)
    found = weighted_median((ours / theirs).log(), ours * theirs)
    return torch.where(found.abs() <= _MOST_GAIN, found, 0.0).exp()


def _difference(image: Tensor, color: Tensor, where: Tensor) -> Tensor:
    """Difference of window means over pixels that both have, mean over the channels. (3, H, W) twice, (H, W) -> (H, W)"""
    weight = where.float()

    def means(values: Tensor) -> Tensor:
        return F.avg_pool2d(values[None], _WINDOW, 1, _WINDOW // 2)[0]

    share = means(weight[None]).clamp(min=1e-6)
    return (means((image - color) * weight) / share).abs().mean(0)


def _with(view: View, image: Tensor, confidence: Tensor) -> View:
    return View(view.name, image, view.K, view.c2w, None, True, confidence)


def confirmed(verdicts: Sequence[Verdict], maps: Sequence[DepthMap], shown: Sequence[Tensor]) -> list[Verdict]:
    """Verdicts of views that uncover something, once their depth was looked for among all of them.

    Where no photo shows a pixel, others that were drawn have to: its confidence goes with how likely the depth is right that they give
    it, and falls to a quarter where they give none.

    Args:
        verdicts: V of them.
        maps: Their depth maps.
        shown: V of (H, W), the validity of what photos show, of the views' size.
    """
    result = []
    for verdict, found, validity in zip(verdicts, maps, shown, strict=True):
        view = verdict.view
        assert view.confidence is not None
        size = (view.height, view.width)
        sure = torch.where(found.depth > 0, found.confidence, 0.0)
        sure = F.interpolate(sure[None, None], size, mode="bilinear", antialias=True)[0, 0].clamp(min=_ALONE)
        factor = validity + (1 - validity) * sure
        result.append(Verdict(_with(view, view.image, view.confidence * factor), verdict.agreement, verdict.new))
    return result
