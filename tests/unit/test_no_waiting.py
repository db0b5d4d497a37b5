"""What the optimizer asks PyTorch for in a step, where a GPU would be made to wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from support.synthetic import textured_plane
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sparse3d.config import OptimizeConfig
from sparse3d.kernels import adam, cpu
from sparse3d.kernels.cpu_train import Dropout
from sparse3d.optimize.loop import look_of
from sparse3d.optimize.parameters import Parameters
from sparse3d.optimize.step import Shot, autograd_step
from sparse3d.types import Gaussians

# Numbers for Python, sizes that hang on values, and what comes from or goes to another device.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique", "_to_copy"}


class Asked(TorchDispatchMode):
    """Operators that PyTorch is asked for, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        options = kwargs or {}
        # a conversion of numbers alone waits for nothing
        if name != "_to_copy" or "device" in options:
            self.names.add(name)
        # a mask as an index is a size that hangs on values
        if name in ("index", "index_put_") and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        ):
            self.names.add("nonzero")
        return func(*args, **options)


def plane_of_gaussians() -> Gaussians:
    generator = torch.Generator().manual_seed(0)
    means = torch.rand(30, 3, generator=generator) * torch.tensor([3.0, 2.2, 0.2]) + torch.tensor([-1.5, -1.1, 3.9])
    return Gaussians(
        means,
        torch.randn(30, 4, generator=generator),
        torch.full((30, 3), -1.9),
        torch.zeros(30),
        torch.zeros(30, 1, 3),
    )


def smear(means, quats, scales, opacities, colors, viewmats, Ks, width, height, **options):
    """A renderer that asks for nothing itself: every pixel is a mix of all Gaussians."""
    each = opacities[:, None] * (colors[:, 0] + means + quats[:, :3] + scales)
    mix = torch.linspace(0.5, 1, height * width, device=means.device).outer(
        means.new_full((len(means),), 1 / len(means))
    )
    rgb = (mix @ each).reshape(1, height, width, 3) + options["background"]
    return rgb, rgb[..., 0], rgb[..., 0], rgb[..., 0]


def one_step(device: torch.device) -> Callable[[], Tensor]:
    """A step with all that a step may have, after one that puts constants where they are needed."""
    view = replace(textured_plane(24, 32)[0].views[0], mask=torch.rand(24, 32) > 0.3)
    config = OptimizeConfig()
    shot = Shot.of(view, torch.tensor([1.1, 1.0, 0.9]), device)
    parameters = Parameters(plane_of_gaussians().to(device), config, 1.0)
    dropout = Dropout((torch.arange(30) % 5 > 0).to(device), 1.25)
    look = look_of((view,), config)
    autograd_step(smear, parameters, shot, 1, dropout, config, look)
    return lambda: autograd_step(smear, parameters, shot, 1, dropout, config, look)


def test_a_step_waits_for_nothing(monkeypatch):
    monkeypatch.setattr(cpu, "available", lambda: False)  # whose forms are not those of a GPU
    monkeypatch.setattr(adam, "_picks", lambda _: False)
    step = one_step(torch.device("cpu"))
    with Asked() as asked:
        loss = step()
    assert float(loss) > 0
    assert {"lerp", "where", "sigmoid"} <= asked.names  # it was looked at
    assert not asked.names & WAITING


@pytest.mark.cuda
def test_a_step_on_a_gpu_waits_for_nothing():
    """By PyTorch's own watch, which sees more than names of operators."""
    step = one_step(torch.device("cuda"))
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert float(loss) > 0
