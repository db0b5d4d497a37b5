"""Pixels that count for nothing: not numbers, or left out by a mask. Files hold none of the first; views made by other programs may."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from sparse3d.errors import UserError
from sparse3d.types import View


def with_numbers(views: Sequence[View], warn: Callable[[str], None]) -> tuple[View, ...]:
    """The views with pixels that are nan or infinite in some channel masked, and of the mean colour of the others.

    Resizing and windows would spread them to their neighbours. Views without such pixels are handed back as they are, the tuple too.

    Args:
        views: Any.
        warn: Called with the name of each view that has such pixels.

    Raises:
        UserError: a view has no other pixels; names it.
    """
    if all(bool(view.image.isfinite().all()) for view in views):
        return tuple(views)
    clean = []
    for view in views:
        finite = view.image.isfinite().all(0)
        if finite.all():
            clean.append(view)
            continue
        if not finite.any():
            raise UserError(
                f"{view.name}: no pixel is a number (nan or infinite, all of them). Leave the view out, or load its image anew"
            )
        wrong = int((~finite).sum())
        warn(f"{view.name}: {wrong} of {finite.numel()} pixels are nan or infinite; they are masked")
        mean = view.image[:, finite].mean(1)[:, None, None]
        mask = finite if view.mask is None else view.mask & finite
        clean.append(replace(view, image=torch.where(finite, view.image, mean), mask=mask))
    return tuple(clean)


def check_masks(views: Sequence[View], warn: Callable[[str], None]) -> None:
    """Tells of views whose mask leaves nothing: they do no harm and no good.

    Args:
        views: Any.
        warn: Called with the name of each such view.

    Raises:
        UserError: all are so.
    """
    empty = [view.name for view in views if view.mask is not None and not view.mask.any()]
    if len(empty) == len(views):
        raise UserError(
            f"the masks leave no pixel of any of the {len(views)} views. A mask is True, and alpha above 127, where a picture counts: "
            "they may be inverted"
        )
    for name in empty:
        warn(f"{name}: its mask leaves no pixel; the view teaches nothing")
