"""Sheets of samples to look at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_STOPS = torch.tensor([[0.05, 0.03, 0.3], [0.1, 0.5, 0.75], [0.3, 0.8, 0.35], [0.95, 0.75, 0.2], [0.8, 0.1, 0.1]])


def sheet(rows: Sequence[Tensor]) -> Tensor:
    """Rows of one width one below the other. (3, H, W) in [0, 1]"""
    return torch.cat([row.float() for row in rows], 1).clamp(0, 1)


def colored(values: Tensor) -> Tensor:
    """Values in [0, 1] from dark blue over green to red. (H, W) -> (3, H, W)"""
    place = values.clamp(0, 1) * (len(_STOPS) - 1)
    low = place.floor().clamp(max=len(_STOPS) - 2)
    share = (place - low)[..., None]
    stops = _STOPS.to(values.device)
    return torch.lerp(stops[low.long()], stops[low.long() + 1], share).permute(2, 0, 1)
