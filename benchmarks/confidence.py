"""Fits the confidence of depth, and shows how far it can be trusted on sets that it was not fitted to.

    python benchmarks/confidence.py

Six photo sets, 3 and 6 views of each, truth as in depth.py. Each set has the same weight. The first line are the numbers that stand in
sparse3d/init/consistency.py; then, for each set, fitted to the other five: in bins of the confidence its mean, the share of depths that
are right within 3 %, and how many points there are.
"""

from __future__ import annotations

import os
from unittest.mock import patch

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import itertools

import torch
import torch.nn.functional as F
from depth import everywhere, real
from torch import Tensor

from sparse3d.config import load_config
from sparse3d.init import planesweep
from sparse3d.init.consistency import Agreement, confidence

SETS = ("fern", "fox", "fountain", "apartment_walk", "redkitchen", "monstree")
RIGHT = 0.03
BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0)


def samples(name: str, count: int) -> tuple[Tensor, Tensor]:
    """What confidence is made of at the true points of a set's views, (P, 6), and whether depth is right there, (P,)."""
    seen: list[tuple[Tensor, Tensor, Agreement]] = []

    def listening(score: Tensor, margin: Tensor, agreed: Agreement) -> Tensor:
        seen.append((score, margin, agreed))
        return confidence(score, margin, agreed)

    config = load_config("balanced")
    training, _, truths = real(name, count, config)
    with patch.object(planesweep, "confidence", listening):
        maps = everywhere(training, config)
    rows, right = [], []
    for found, truth, (score, margin, agreed) in zip(maps, truths, seen, strict=True):
        x, y = truth.pixels.unbind(1)
        known = found.depth[y, x] > 0
        x, y, z = x[known], y[known], truth.depths[known]
        columns = [
            torch.ones(len(z)),
            score[y, x].clamp(0, 1),
            margin[y, x].clamp(max=8) / 8,
            (agreed.support[y, x] >= 1).float(),
            (agreed.support[y, x] >= 2).float(),
            agreed.against[y, x].clamp(max=2).float(),
        ]
        rows.append(torch.stack(columns, dim=1))
        right.append(((found.depth[y, x] - z).abs() < RIGHT * z).float())
    return torch.cat(rows).double(), torch.cat(right).double()


def fitted(sets: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Coefficients of a logistic regression in which every set has the same weight. (6,)"""
    rows, right = torch.cat([x for x, _ in sets]), torch.cat([y for _, y in sets])
    weight = torch.cat([torch.full_like(y, 1 / len(y)) for _, y in sets]) / len(sets)
    found = torch.zeros(rows.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([found], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        losses = F.binary_cross_entropy_with_logits(rows @ found, right, reduction="none")
        total = (weight * losses).sum() + 1e-4 * (found**2).sum()
        total.backward()
        return total

    optimizer.step(loss)
    return found.detach()


def main() -> None:
    """Prints coefficients and a Markdown table."""
    data = {(name, count): samples(name, count) for name in SETS for count in (3, 6)}
    print(
        "constant, score, margin, support >= 1, support >= 2, against:",
        *(f"{c:.2f}" for c in fitted(list(data.values()))),
    )
    print(
        "\n| set | views | " + " | ".join(f"to {high:g}" for high in BINS[1:]) + " |\n" + "|---" * (1 + len(BINS)) + "|"
    )
    for (name, count), (rows, right) in data.items():
        coefficients = fitted([value for (other, _), value in data.items() if other != name])
        certain = torch.sigmoid(rows @ coefficients)
        cells = []
        for low, high in itertools.pairwise(BINS):
            inside = (certain >= low) & (certain < high)
            few = int(inside.sum()) < 20
            cells.append(
                "–" if few else f"{certain[inside].mean():.2f}: {right[inside].mean():.2f} ({int(inside.sum())})"
            )
        print(f"| {name} | {count} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
