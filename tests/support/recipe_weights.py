"""Weights for networks whose published ones are not at hand: each tensor a function of its name and shape, the same everywhere.

Only NumPy's PCG64 and its normal numbers are needed, so results of another program stay comparable for as long as names agree.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np

# of layers whose output is a logit or is added to one: so that softmax and clamps see a useful spread
GAINS = {
    "encoder.depth_predictor.regressor_residual.0.weight": 0.0625,
    "encoder.depth_predictor.regressor_residual.1.weight": 0.0625,
    "encoder.depth_predictor.upsampler.scratch.output_conv.4.weight": 0.25,
}


def fill(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """A float32 tensor for every name of a state dict."""
    return {name: tensor(name, shape) for name, shape in shapes.items()}


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Normal numbers n, seeded by the first 8 bytes (big-endian) of the SHA-256 of the name, as the last part of the name wants them.

    pos_embed, cls_token: n / 2; bias: n / 10; weight of one dimension: 1 + n / 10; two dimensions or more: gain n / sqrt(inputs),
    inputs the product of all but the first; anything else: n / 10. Made in float64 and rounded once.
    """
    kind = name.rsplit(".", 1)[-1]
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    normal = np.asarray(np.random.Generator(np.random.PCG64(seed)).standard_normal(shape))
    if kind in ("pos_embed", "cls_token"):
        value = 0.5 * normal
    elif kind == "weight" and len(shape) == 1:
        value = 1.0 + 0.1 * normal
    elif kind != "bias" and len(shape) > 1:
        value = GAINS.get(name, 1.0) * normal / np.sqrt(math.prod(shape[1:]))
    else:
        value = 0.1 * normal
    return value.astype(np.float32)
