"""The PyTorch plane sweep and semi-global matching, by closed forms and by the papers' recursions written out."""

from __future__ import annotations

import pytest
import torch
from support.synthetic import textured_plane

from sparse3d.kernels.sweep import NOISE, pooled, semi_global, zncc_sweep, zncc_volume

ALONG = ((0, 1), (0, -1), (1, 0), (-1, 0))
ACROSS = ((1, 1), (-1, -1), (1, -1), (-1, 1))


def path_costs(costs, guide, small, large, direction):
    """Hirschmüller 2008 eq. 13 for one direction, one pixel after the other."""
    planes, height, width = costs.shape
    result = torch.empty_like(costs)
    rows = range(height) if direction[0] >= 0 else reversed(range(height))
    for y in rows:
        for x in range(width) if direction[1] >= 0 else reversed(range(width)):
            v, u = y - direction[0], x - direction[1]
            for d in range(planes):
                if not (0 <= v < height and 0 <= u < width):
                    result[d, y, x] = costs[d, y, x]
                    continue
                before = result[:, v, u]
                price = max(large / (1 + 20 * abs(guide[y, x] - guide[v, u])), small)
                choices = [before[d], before.min() + price]
                choices += [before[k] + small for k in (d - 1, d + 1) if 0 <= k < planes]
                result[d, y, x] = costs[d, y, x] + min(choices) - before.min()
    return result


@pytest.mark.parametrize("paths", [4, 8])
@pytest.mark.parametrize("shape", [(3, 5, 7), (4, 1, 6), (2, 6, 1)])
def test_semi_global_is_the_recursion(shape, paths):
    generator = torch.Generator().manual_seed(0)
    costs = torch.rand(shape, generator=generator, dtype=torch.float64)
    guide = torch.rand(shape[1:], generator=generator, dtype=torch.float64)
    want = sum(path_costs(costs, guide, 0.08, 0.6, d) for d in (ALONG if paths == 4 else ALONG + ACROSS))
    torch.testing.assert_close(semi_global(costs, guide, 0.08, 0.6, paths), want)


def test_semi_global_knows_4_and_8_paths():
    with pytest.raises(ValueError, match="paths is 5"):
        semi_global(torch.zeros(2, 3, 4), torch.zeros(3, 4), paths=5)


def test_a_view_of_itself_scores_var_over_var_and_noise():
    image = torch.rand(20, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    K = torch.tensor([[20.0, 0, 12], [0, 20, 10], [0, 0, 1]], dtype=torch.float64)
    depths = torch.tensor([1.0, 3.0], dtype=torch.float64)
    scores = zncc_volume(image, K, image, K, torch.eye(4, dtype=torch.float64), depths, 5)
    variance = image.unfold(0, 5, 1).unfold(1, 5, 1).var(dim=(-1, -2), unbiased=False)
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores[:, 2:-2, 2:-2], (variance / (variance + NOISE**2)).expand(2, 16, 20))


def test_scores_peak_at_the_true_depth():
    posed, depths = textured_plane()
    greys = [view.image.mean(dim=0) for view in posed.views]
    middle, others = posed.views[1], (posed.views[0], posed.views[2])
    to_others = torch.stack([other.cameras.w2c[0] @ middle.c2w for other in others])
    planes = 1 / torch.linspace(1 / 2, 1 / 8, 64)
    scores = zncc_sweep(
        greys[1], middle.K, [greys[0], greys[2]], torch.stack([o.K for o in others]), to_others, planes, 7
    )
    off = (1 / planes[scores.argmax(dim=0)] - 1 / depths[1]).abs() / (0.375 / 63)  # in planes
    assert off.median() < 1


def test_pooled_scores_count_the_better_half_twice():
    nan = torch.nan
    volumes = torch.tensor([[0.9, 0.2, nan, nan], [-0.5, nan, nan, 0.3], [0.7, 0.4, nan, nan], [0.1, 0.6, nan, nan]])
    got = pooled([row[:, None, None] for row in volumes])[:, 0, 0]
    # all four and the best 2; three and the best 2; none; the only one
    torch.testing.assert_close(got, torch.tensor([(0.3 + 0.8) / 2, (0.4 + 0.5) / 2, -1.0, 0.3]))
