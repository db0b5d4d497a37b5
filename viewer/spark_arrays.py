"""Gaussians as Spark keeps them on the graphics card: its extended encoding, 32 bytes each and 16 to 64 for the harmonics.

Spark would make the same of a PLY file, but 2.2.0 takes the power of two below the largest coefficient for the one above and so
cuts off up to half of each (`encodeExtRgb`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from sparse3d.types import Gaussians

ROW = 2048  # of its textures, which are whole rows, and above ROW * ROW Gaussians whole layers

Words = npt.NDArray[np.uint32]


def spark_arrays(gaussians: Gaussians) -> list[Words]:
    """The arrays of Spark's `ExtSplats`, each (padded count, 4): two of the Gaussians, then those of the harmonics.

    Of the harmonics: none at degree 0, at degree 1 one, at degree 2 two, at degree 3 four. Padding is fully transparent.
    """
    with torch.no_grad():
        centres = gaussians.means.float().cpu().numpy()
        opacities = gaussians.opacities.cpu().numpy()
        log_scales = gaussians.log_scales.cpu().numpy()
        sh = gaussians.sh.float().cpu().numpy()
        rgb = sh[:, 0] * np.float32(0.28209479177387814) + 0.5  # may leave [0, 1]: harmonics are added before it is cut
    count = len(gaussians)
    layer = ROW * ROW if count > ROW * ROW else ROW
    padded = -(-count // layer) * layer

    def table(columns: list[Words]) -> Words:
        whole = np.zeros((padded, 4), np.uint32)
        for index, column in enumerate(columns):
            whole[:count, index] = column
        return whole

    first = [*centres.T.astype(np.float32).view(np.uint32).reshape(3, count), _halves(opacities, np.zeros(count))]
    second = [
        _halves(rgb[:, 0], rgb[:, 1]),
        _halves(rgb[:, 2], log_scales[:, 0]),
        _halves(log_scales[:, 1], log_scales[:, 2]),
        _rotations(gaussians.quats.double().cpu().numpy()),
    ]
    arrays = [table(first), table(second)]
    coefficients = [_shared_exponent(sh[:, index]) for index in range(1, sh.shape[1])]
    return arrays + [table(coefficients[start : start + 4]) for start in range(0, len(coefficients), 4)]


def _halves(low: npt.NDArray[np.floating], high: npt.NDArray[np.floating]) -> Words:
    """Two float16 in one word; what is out of range is the largest there is."""
    bits = [
        np.clip(values, -65504, 65504).astype(np.float16).view(np.uint16).astype(np.uint32) for values in (low, high)
    ]
    return bits[0] | bits[1] << np.uint32(16)


def _rotations(wxyz: npt.NDArray[np.float64]) -> Words:
    """Axis on an octahedron, 10 bits twice, and the angle from 0 to pi in 12 bits."""
    wxyz = wxyz / np.maximum(np.linalg.norm(wxyz, axis=1, keepdims=True), 1e-30)
    wxyz = np.where(wxyz[:, :1] < 0, -wxyz, wxyz)
    angle = 2 * np.arccos(np.clip(wxyz[:, 0], 0, 1))
    sine = np.linalg.norm(wxyz[:, 1:], axis=1)
    axis = np.where(sine[:, None] > 1e-9, wxyz[:, 1:] / np.maximum(sine, 1e-9)[:, None], [1.0, 0.0, 0.0])
    x, y = axis[:, :2].T / np.abs(axis).sum(axis=1)
    folded = axis[:, 2] < 0
    x, y = (
        np.where(folded, (1 - np.abs(y)) * np.where(x >= 0, 1, -1), x),
        np.where(folded, (1 - np.abs(x)) * np.where(y >= 0, 1, -1), y),
    )
    u, v = (np.round((value * 0.5 + 0.5) * 1023).astype(np.uint32) for value in (x, y))
    turn = np.round(angle / np.pi * 4095).astype(np.uint32)
    return turn << np.uint32(20) | v << np.uint32(10) | u


def _shared_exponent(rgb: npt.NDArray[np.float32]) -> Words:
    """Three magnitudes of 8 bits, three signs, and the power of two that is not below any of them, 5 bits. (N, 3) to (N,)"""
    size = np.abs(rgb)
    largest = np.maximum(size.max(axis=1), 2.0**-15)
    exponent = np.clip(np.ceil(np.log2(largest)), -15, 16)
    bytes_ = np.round(np.clip(size / np.exp2(exponent)[:, None], 0, 1) * 255).astype(np.uint32)
    signs = (rgb < 0).astype(np.uint32)
    word = bytes_[:, 0] | bytes_[:, 1] << np.uint32(8) | bytes_[:, 2] << np.uint32(16)
    word |= (signs[:, 0] | signs[:, 1] << np.uint32(1) | signs[:, 2] << np.uint32(2)) << np.uint32(24)
    return word | (exponent + 15).astype(np.uint32) << np.uint32(27)
