"""The parts of benchmarks/ that a wrong figure could come from."""

import math
import stat
import sys
from pathlib import Path

import pytest
import torch
from harness.gsplat_torch import time_gsplat
from harness.loss import ssim_by_convolution
from harness.opensplat import grey_difference, opensplat
from harness.pairs import contributing_pairs
from harness.parity import differences
from harness.rasters import Pass
from harness.scenes import relief, with_targets
from harness.steps import measure_steps
from harness.tables import Table
from harness.timing import Time, alternating, total, typical

from sparse3d.kernels import cpu, reference
from sparse3d.kernels.ssim import ssim_map
from sparse3d.types import Gaussians, View

compiled = pytest.mark.skipif(not cpu.available(), reason="this install has no compiled kernels (SPARSE3D_PURE)")


def on_axis(opacities: list[float]) -> Gaussians:
    """Round Gaussians of 0.25 units one behind the other, nearest first, 4 units away."""
    count = len(opacities)
    means = torch.tensor([[0.0, 0.0, 4.0]]) + torch.arange(count)[:, None] * torch.tensor([0.0, 0.0, 1e-3])
    return Gaussians(
        means,
        torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        torch.full((count, 3), 0.25).log(),
        torch.tensor(opacities).logit(),
        torch.zeros(count, 1, 3),
    )


def view_of(width: int, height: int, focal: float) -> View:
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return View("0", torch.zeros(3, height, width), K, torch.eye(4))


def test_pairs_of_one_gaussian_fill_its_ellipse():
    """alpha falls to 1/255 at r^2 = 2 s^2 ln(255 o), with s^2 = (f sigma / z)^2 + 0.3 pixels^2."""
    area = math.pi * 2 * ((320 * 0.25 / 4) ** 2 + 0.3) * math.log(255 * 0.8)
    # pixels whose centre is inside: the boundary of 410 pixels passes through some, half of which count
    assert contributing_pairs(on_axis([0.8]), view_of(200, 180, 320.0)) == pytest.approx(area, rel=0.005)


def test_pairs_end_with_the_transmittance():
    """Two alphas of 0.995 leave 2.5e-5: where that is, the second Gaussian is left out, and all behind it."""
    view = view_of(1, 1, 320.0)
    assert contributing_pairs(on_axis([0.995]), view) == 1
    assert contributing_pairs(on_axis([0.995, 0.995, 0.5]), view) == 1
    assert contributing_pairs(on_axis([0.5, 0.5, 0.5]), view) == 3


def test_rivals_take_turns_until_their_time_is_up():
    order = []
    calls = [lambda: order.append("a"), lambda: order.append("b")]
    results = alternating(calls, budget_s=0.0, least=3)
    assert [len(r) for r in results] == [3, 3] and order == ["a", "b"] * 3


def test_typical_time_is_the_lower_quartile():
    times = [Time(cpu, 10 * cpu) for cpu in (5.0, 1.0, 2.0, 4.0, 3.0, 6.0, 7.0, 8.0)]
    assert typical(times) == (3.0, 30.0)
    assert total(times[:2]) == (6.0, 60.0)


def test_table_has_as_many_cells_as_columns(capsys):
    table = Table("Title", ["a", "b", "c"])
    table.row("x", 1234.5, None)
    assert capsys.readouterr().out.splitlines()[-1] == "| x | 1,234 | - |"
    with pytest.raises(ValueError, match="2 cells in a table of 3"):
        table.row(1, 2)


def test_convolutions_are_the_same_ssim():
    generator = torch.Generator().manual_seed(0)
    image, target = torch.rand(2, 3, 30, 41, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(ssim_by_convolution(image, target), ssim_map(image, target), rtol=1e-9, atol=1e-9)


@compiled
def test_differences_are_none_to_itself_and_small_to_the_reference():
    one = Pass(*relief(600, 48, 36), sh_degree=3)
    for difference in differences(one, cpu.rasterize, cpu.rasterize):
        assert difference.relative == 0 and difference.cosine == pytest.approx(1, abs=1e-12), difference
    for difference in differences(one, cpu.rasterize, reference.rasterize):
        # a Gaussian at a cut-off may be left out by one side
        assert difference.share < 0.01 and difference.cosine > 0.9999, difference
    torch.testing.assert_close(one.draw().alpha.mean(), torch.tensor(1.0), rtol=0, atol=0.1)  # it fills the picture


@compiled
def test_gsplat_is_timed_in_two_parts():
    pytest.importorskip("gsplat", reason="gsplat is not installed")
    scene = with_targets(*relief(300, 32, 24))
    parts = time_gsplat(scene.gaussians, scene.views[0], torch.ones(24, 32, 3), sh_degree=3)
    assert parts.theirs.wall > 0 and parts.stand_in.wall > 0


@compiled
def test_steps_are_those_of_the_loop():
    steps = measure_steps(with_targets(*relief(300, 32, 24)), threads=1, rounds=2, program=None)
    assert len(steps.ours) == 2 * 3 and not steps.theirs
    whole = sum(time.cpu for time in steps.ours)
    assert {"forward", "update", "photometric_loss"} <= set(steps.parts)
    assert 0 < sum(steps.parts.values()) < whole


@pytest.fixture
def pretender(tmp_path) -> Path:
    """A program of opensplat_step's protocol that reads the scene it is given and answers with what it found."""
    program = tmp_path / "opensplat_step"
    program.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        "import numpy as np\n"
        "data = open(sys.argv[1], 'rb').read()\n"
        "count, views, height, width = np.frombuffer(data[:16], '<i4')\n"
        "floats = np.frombuffer(data[16:], '<f4')\n"
        "assert len(floats) == 59 * count + 3 + views * (9 + 16 + 3 * height * width)\n"
        "for line in sys.stdin:\n"
        "    view = int(line)\n"
        "    start = 59 * count + 3 + view * (25 + 3 * height * width)\n"
        "    print(floats[start], 0.25, 0.5, flush=True)\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


@compiled
def test_opensplat_is_given_the_scene(pretender):
    scene = with_targets(*relief(300, 32, 24))
    with opensplat(pretender, scene, (0.1, 0.2, 0.3), threads=1) as step:
        focal, time = step(2)
        assert focal == pytest.approx(0.96 * 32, rel=1e-6)
        assert time == Time(250.0, 500.0)
    assert len(measure_steps(scene, threads=1, rounds=2, program=pretender).theirs) == 2
    assert grey_difference(pretender, scene) == pytest.approx(0.96 * 32, rel=1e-6)
    with pytest.raises(SystemExit, match="how to build"), opensplat(pretender / "no", scene, (0, 0, 0), threads=1):
        pass
