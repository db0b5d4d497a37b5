"""The PyTorch census sweep against the definition written out."""

from __future__ import annotations

import pytest
import torch

from sparse3d.kernels.census import bilinear, census_sweep, census_volume

DOUBLE = torch.float64


def census_by_hand(first, second, y, x):
    """Zabih and Woodfill 1994 over 9x7 pixels: (n - 2 h) / n of the neighbours that exist."""
    height, width = first.shape
    count = differ = 0
    for v in range(y - 3, y + 4):
        for u in range(x - 4, x + 5):
            if (v, u) != (y, x) and 0 <= v < height and 0 <= u < width:
                count += 1
                differ += bool(first[v, u] < first[y, x]) != bool(second[v, u] < second[y, x])
    return (count - 2 * differ) / count if count else 0.0


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (9, 12)])
def test_a_source_at_the_same_place(size):
    """With whole greys, so that neighbours are often equal."""
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randint(0, 5, (2, *size), generator=generator).to(DOUBLE)
    K = torch.tensor([[8.0, 0, 3], [0, 8, 4], [0, 0, 1]], dtype=DOUBLE)
    scores = census_volume(first, K, second, K, torch.eye(4, dtype=DOUBLE), torch.ones(1, dtype=DOUBLE))
    want = [[census_by_hand(first, second, y, x) for x in range(size[1])] for y in range(size[0])]
    torch.testing.assert_close(scores[0], torch.tensor(want, dtype=DOUBLE))


def test_greys_are_warped_before_they_are_compared():
    """A camera rolled by 90 degrees sees the same picture turned: bits along the source's own axes would not match."""
    image = torch.rand(16, 16, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    K = torch.tensor([[8.0, 0, 8], [0, 8, 8], [0, 0, 1]], dtype=DOUBLE)
    roll = torch.eye(4, dtype=DOUBLE)
    roll[:2, :2] = torch.tensor([[0.0, -1], [1, 0]])
    scores = census_sweep(image, K, [torch.rot90(image, -1)], K[None], roll[None], torch.full((1,), 2.0, dtype=DOUBLE))
    assert (scores == 1).all()


def test_bilinear_between_centres():
    image = torch.tensor([[0.0, 1.0, 3.0], [10.0, 11.0, 13.0]], dtype=DOUBLE)
    places = torch.tensor([[0.5, 0.5], [1.0, 0.5], [1.5, 1.0], [2.25, 1.5], [0.0, 9.0], [-5.0, 0.0]], dtype=DOUBLE)
    want = torch.tensor([0.0, 0.5, 6.0, 12.5, 10.0, 0.0], dtype=DOUBLE)
    torch.testing.assert_close(bilinear(image, places), want)


def test_bilinear_of_one_grey_is_that_grey():
    image = torch.full((5, 7), 0.3)
    places = 6 * torch.rand(1000, 2, generator=torch.Generator().manual_seed(2))
    assert (bilinear(image, places) == image[0, 0]).all()
