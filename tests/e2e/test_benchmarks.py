"""The benchmark scripts at sizes that say nothing, the one for GPUs as far as a CPU goes."""

import os
import subprocess
import sys
from pathlib import Path

import gpu
import pytest
import torch

from sparse3d.kernels import cpu, reference

BENCHMARKS = Path(gpu.__file__).parent
pytestmark = pytest.mark.skipif(not cpu.available(), reason="this install has no compiled kernels (SPARSE3D_PURE)")


def test_gpu_tables_with_the_cpu_on_both_sides(capsys, repository):
    cells = [(300, 32, 24)]
    gpu.parity(cpu.rasterize, reference.rasterize, "reference", cells)
    gpu.times(cpu.rasterize, "cpu", "cpu", lambda: None, cells, budget_s=0.0)
    photos = sorted((repository / "examples" / "photos").glob("*.jpg"))[:3]
    settings = ["renderer=cpu", "photos.max_size=96", "pose.max_size=96", "optimize.steps=12"]
    gpu.reconstruction(photos, repository / "examples" / "ground_truth" / "transforms.json", (), settings, "cpu")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert sum(row.startswith("| 300 | 32x24 | ") for row in rows) == 8 + 1
    assert rows[-1].endswith(" | - | - |")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")
def test_gpu_script_says_that_there_is_none():
    done = subprocess.run([sys.executable, BENCHMARKS / "gpu.py"], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no CUDA device" in done.stderr and not done.stdout


def test_kernels_script_prints_its_tables(tmp_path):
    arguments = ["--gaussians", "400", "--size", "64x48", "--seconds", "0", "--rounds", "1", "--scenes", "relief"]
    arguments += ["--cache", tmp_path, "raster", "step", "loss"]
    environment = {name: value for name, value in os.environ.items() if name != "SPARSE3D_OPENSPLAT"}
    command = [sys.executable, BENCHMARKS / "kernels.py", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 3 + 2 + 2 + 1  # heads; one and two threads of raster and step; loss
