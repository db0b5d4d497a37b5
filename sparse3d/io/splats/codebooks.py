"""Many numbers by few: codebooks of single values, and palettes of vectors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def codebook(values: np.ndarray, size: int = 256, steps: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """The values that stand for all others with the least squared error (Lloyd 1982), and which stands for which.

    It starts from quantiles, where most values are, and even steps, so that the rare ones at the ends are near one too.

    Args:
        values: Any shape.

    Returns:
        (size,) sorted float32, and indices of the shape of `values`, uint8 for size 256.
    """
    flat = np.sort(values.ravel().astype(np.float64))
    if not len(flat):
        return np.zeros(size, dtype=np.float32), np.zeros(values.shape, dtype=np.uint8)
    half = size // 2
    quantiles = flat[np.linspace(0, len(flat) - 1, half).round().astype(int)]
    book = np.sort(np.concatenate([quantiles, np.linspace(flat[0], flat[-1], size - half)]))
    sums = np.concatenate([[0.0], np.cumsum(flat)])
    for _ in range(steps):
        cuts = np.concatenate([[0], np.searchsorted(flat, (book[1:] + book[:-1]) / 2), [len(flat)]])
        counts = np.diff(cuts)
        means = (sums[cuts[1:]] - sums[cuts[:-1]]) / np.maximum(counts, 1)
        book = np.sort(np.where(counts > 0, means, book))
    book = book.astype(np.float32)
    middles = (book[1:].astype(np.float64) + book[:-1]) / 2
    return book, np.searchsorted(middles, values).astype(np.uint8 if size <= 256 else np.int64)


def palette(vectors: Tensor, size: int, steps: int = 8) -> tuple[Tensor, Tensor]:
    """Vectors that stand for all others, and which stands for which: k-means in two levels.

    First about sqrt(size) clusters, then each of them by itself, with a share of the palette as large as its share of the vectors:
    a palette of 50,000 for 200,000 vectors would otherwise take 10^10 distances a step.

    Args:
        vectors: (N, D) float32.
        size: Above 0.

    Returns:
        (at most size, D) and (N,) int64.
    """
    if len(vectors) <= size:
        return vectors.clone(), torch.arange(len(vectors))
    generator = torch.Generator().manual_seed(0)
    coarse = max(1, round(size**0.5))
    size -= coarse  # every cluster has a vector, however small its share
    _, groups = _kmeans(vectors, coarse, steps, generator)
    labels = torch.zeros(len(vectors), dtype=torch.int64)
    centres: list[Tensor] = []
    used, seen = 0, 0
    order = torch.argsort(groups, stable=True)
    for members in torch.split(order, torch.bincount(groups, minlength=coarse).tolist()):
        if not len(members):
            continue
        seen += len(members)
        share = max(1, size * seen // len(vectors) - used)  # by running totals, so that the parts add up to the whole
        found, inner = _kmeans(vectors[members], share, steps, generator)
        labels[members] = inner + sum(map(len, centres))
        centres.append(found)
        used += len(found)
    return torch.cat(centres), labels


def _kmeans(vectors: Tensor, size: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Lloyd's k-means from vectors drawn at random. (N, D) -> (K, D), (N,)"""
    if len(vectors) <= size:
        return vectors.clone(), torch.arange(len(vectors))
    centres = vectors[torch.randperm(len(vectors), generator=generator)[:size]].clone()
    for _ in range(steps):
        labels = _nearest(vectors, centres)
        counts = torch.bincount(labels, minlength=size)
        sums = torch.zeros_like(centres).index_add_(0, labels, vectors)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
    return centres, _nearest(vectors, centres)


def _nearest(vectors: Tensor, centres: Tensor, chunk: int = 1 << 16) -> Tensor:
    half = (centres * centres).sum(dim=1) / 2
    return torch.cat([(half - part @ centres.T).argmin(dim=1) for part in vectors.split(chunk)])
