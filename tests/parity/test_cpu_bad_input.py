"""What the compiled kernels cannot work with is a ValueError that names the argument: from the functions that people call, and
from the bindings below them, which take nothing on trust."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from typing import Any

import pytest
import torch
from support.gaussian_scenes import random_scene

if os.environ.get("SPARSE3D_PURE"):
    pytest.skip("SPARSE3D_PURE is set: this install has no compiled kernels", allow_module_level=True)

from sparse3d.kernels import _cpu, cpu, cpu_loss, cpu_sweep

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"means": torch.zeros(5, 3, dtype=torch.float64)}, "means is torch.float64"),
        ({"means": torch.zeros(())}, r"means is \(\), needed \(N, 3\)"),
        ({"means": torch.zeros(5, 3, device="meta")}, "means is torch.float32 on meta"),
        ({"quats": torch.zeros(5, 3)}, r"quats is \(5, 3\), needed \(5, 4\)"),
        ({"scales": torch.zeros(5, 3, dtype=torch.float16)}, "scales is torch.float16"),
        ({"opacities": torch.zeros(4)}, r"opacities is \(4,\), needed \(5\)"),
        ({"colors": torch.zeros(5, 4, 3)}, "colors is"),
        ({"viewmats": torch.eye(4)}, r"viewmats is \(4, 4\), needed \(V, 4, 4\)"),
        ({"Ks": torch.zeros(1, 3, 3)}, "Ks is"),
        ({"background": torch.zeros(1)}, "background is"),
        ({"options": {"sh_degree": 1}, "colors": torch.zeros(5, 3, 3)}, "sh_degree 1 needs 4"),
        ({"options": {"sh_degree": 4}}, "sh_degree is 4"),
        ({"options": {"near_plane": 0.0}}, "near_plane is 0.0"),
        ({"options": {"near_plane": NAN}}, "near_plane is nan"),
        ({"options": {"near_plane": INF}}, "near_plane is inf"),
        ({"options": {"far_plane": NAN}}, "far_plane is nan"),
        ({"options": {"far_plane": 0.001}}, "far_plane is 0.001, needed a distance beyond near_plane"),
        ({"options": {"eps2d": -0.1}}, "eps2d is -0.1"),
        ({"options": {"eps2d": NAN}}, "eps2d is nan"),
        ({"width": -1}, "width x height is -1 x 29"),
        ({"height": NAN}, "width x height is 37 x nan"),
        ({"height": 70000}, "width x height is 37 x 70000"),
    ],
)
def test_rasterize(change, words):
    scene = replace(random_scene(0, count=5, hard=False), **change)
    with pytest.raises(ValueError, match=words):
        scene.draw(cpu.rasterize)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"image": torch.rand(3, 8, 9, dtype=torch.float64)}, "image is torch.float64"),
        ({"image": torch.rand(3, 8, 8)}, r"image is \(3, 8, 8\)"),
        ({"image": torch.rand(8, 9, 3)}, r"image is \(8, 9, 3\), needed \(3, H, W\)"),
        ({"target": torch.rand(3, 8, 9, dtype=torch.float64)}, "target is torch.float64"),
        ({"image": torch.rand(3, 0, 9), "target": torch.rand(3, 0, 9)}, r"target is \(3, 0, 9\)"),
        ({"mask": torch.ones(8, 8, dtype=torch.bool)}, r"mask is \(8, 8\)"),
        ({"mask": torch.ones(8, 9)}, "mask is torch.float32"),
        ({"ssim_weight": 1.5}, "ssim_weight is 1.5"),
        ({"ssim_weight": NAN}, "ssim_weight is nan"),
    ],
)
def test_photometric_loss(change, words):
    arguments = {"image": torch.rand(3, 8, 9), "target": torch.rand(3, 8, 9), "ssim_weight": 0.2, **change}
    with pytest.raises(ValueError, match=words):
        cpu_loss.photometric_loss(**arguments)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"reference": torch.zeros(29, 37, dtype=torch.float64)}, "reference is torch.float64"),
        ({"reference": torch.zeros(1, 29, 37)}, r"reference is \(1, 29, 37\), needed \(H, W\)"),
        ({"reference": torch.full((29, 37), NAN)}, "reference holds infinity or NaN"),
        ({"K": torch.eye(4)}, r"K is \(4, 4\), needed \(3, 3\)"),
        ({"sources": [torch.zeros(29, 37)]}, r"source_Ks is \(2, 3, 3\), needed \(1, 3, 3\)"),
        ({"sources": []}, "sources is empty"),
        ({"sources": [torch.zeros(29, 37), torch.zeros(0, 37)]}, r"sources\[1\] is \(0, 37\)"),
        ({"sources": [torch.zeros(29, 37), torch.full((29, 37), INF)]}, r"sources\[1\] holds infinity"),
        ({"reference_to_sources": torch.zeros(2, 3, 4)}, r"reference_to_sources is \(2, 3, 4\), needed \(2, 4, 4\)"),
        ({"depths": torch.zeros(0)}, r"depths is \(0,\)"),
        ({"window": 6}, "window is 6"),
        ({"window": 13}, "window is 13"),
        ({"window": 0}, "window is 0"),
    ],
)
def test_zncc_sweep(change, words):
    arguments = {
        "reference": torch.rand(29, 37),
        "K": torch.eye(3),
        "sources": [torch.rand(29, 37), torch.rand(34, 40)],
        "source_Ks": torch.eye(3).repeat(2, 1, 1),
        "reference_to_sources": torch.eye(4).repeat(2, 1, 1),
        "depths": torch.ones(3),
        "window": 7,
    }
    with pytest.raises(ValueError, match=words):
        cpu_sweep.zncc_sweep(**{**arguments, **change})


@pytest.mark.parametrize(
    "change, words",
    [
        ({"costs": torch.zeros(4, 3)}, r"costs is \(4, 3\), needed \(D, H, W\)"),
        ({"costs": torch.zeros(4, 3, 5, device="meta")}, "costs is torch.float32 on meta"),
        ({"costs": torch.zeros(4, 0, 5), "guide": torch.zeros(0, 5)}, r"costs is \(4, 0, 5\)"),
        ({"guide": torch.zeros(5, 3)}, r"guide is \(5, 3\), needed \(3, 5\)"),
        ({"small": NAN}, "small is nan"),
        ({"large": -1.0}, "large is -1.0"),
        ({"paths": 6}, "paths is 6"),
    ],
)
def test_semi_global(change, words):
    with pytest.raises(ValueError, match=words):
        cpu_sweep.semi_global(**{"costs": torch.zeros(4, 3, 5), "guide": torch.zeros(3, 5), **change})


def with_one(tensors: list[torch.Tensor], place: int, tensor: torch.Tensor) -> list[torch.Tensor]:
    """The list with another tensor in one place."""
    return [*tensors[:place], tensor, *tensors[place + 1 :]]


# One set of arguments that each binding takes, by name.
N, H, W = 4, 6, 8
GAUSSIANS = {
    "means": torch.zeros(N, 3), "quats": torch.ones(N, 4), "scales": torch.ones(N, 3), "opacities": torch.ones(N),
    "colors": torch.ones(N, 3), "sh_degree": -1,
}  # fmt: skip
IMAGES = {"rgb": torch.zeros(1, H, W, 3), "alpha": torch.zeros(1, H, W), "depth": torch.zeros(1, H, W)}
FORWARD = {
    **GAUSSIANS, **IMAGES, "median": torch.zeros(1, H, W), "viewmats": torch.eye(4)[None], "Ks": torch.eye(3)[None],
    "background": torch.zeros(3), "near_plane": 0.01, "far_plane": 1e10, "eps2d": 0.3, "antialiased": False,
    "keep": True, "before_activation": False, "kept": None, "kept_factor": 1.0, "threads": 1,
}  # fmt: skip
RAW = {
    **FORWARD, "colors": torch.ones(N, 3), "sh_degree": 0, "before_activation": True, "kept": torch.ones(N).byte(), "kept_factor": 1.5,
}  # fmt: skip
BACKWARD = {
    "context": _cpu.forward(**FORWARD), **GAUSSIANS, **IMAGES,
    **{f"grad_{name}": torch.zeros_like(value) for name, value in {**GAUSSIANS, **IMAGES}.items() if name != "sh_degree"},
    "grad_viewmats": torch.zeros(1, 4, 4), "grad_background": torch.zeros(3), "threads": 1,
}  # fmt: skip
TRAINED = [torch.ones(N, 3), torch.ones(N, 4), torch.ones(N, 3), torch.ones(N), torch.ones(N, 3)]
UPDATE = {
    "context": _cpu.forward(**RAW), "values": TRAINED, "means": TRAINED, "squares": TRAINED,
    "rates": [torch.ones(value[0].numel()) for value in TRAINED], "sh_degree": 0, "kept": torch.ones(N).byte(), "kept_factor": 1.5,
    "rgb": IMAGES["rgb"], "alpha": IMAGES["alpha"], "grad_rgb": torch.zeros(1, H, W, 3), "beta1": 0.9, "beta2": 0.999, "step": 1, "eps": 1e-15, "opacity_decay": torch.full((N,), 0.9),
    "threads": 1,
}  # fmt: skip
LOSS = {
    "target": _cpu.ssim_target(torch.zeros(3, H, W), 1), "image": torch.zeros(H, W, 3), "mask": torch.ones(H, W).byte(),
    "ssim_weight": 0.2, "gradient": torch.zeros(H, W, 3), "threads": 1,
}  # fmt: skip
SWEEP = {
    "reference": torch.rand(H, W), "sources": [torch.rand(H, W)], "transfers": torch.eye(3, 4, dtype=torch.float64)[None],
    "depths": torch.ones(2), "relief": torch.ones(H, W), "window": 5, "noise": 1e-5, "scores": torch.zeros(H, W, 2), "threads": 1,
}  # fmt: skip
MATCHING = {
    "costs": torch.zeros(H, W, 2), "guide": torch.zeros(H, W), "small": 0.1, "large": 1.0, "edge_weight": 10.0, "paths": 8,
    "total": torch.zeros(H, W, 2), "threads": 1,
}  # fmt: skip
BINDINGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "forward": (_cpu.forward, FORWARD),
    "forward before activation": (_cpu.forward, RAW),
    "backward": (_cpu.backward, BACKWARD),
    "update": (_cpu.update, UPDATE),
    "ssim_target": (_cpu.ssim_target, {"image": torch.zeros(3, H, W), "threads": 1}),
    "photometric_loss": (_cpu.photometric_loss, LOSS),
    "zncc_sweep": (_cpu.zncc_sweep, SWEEP),
    "semi_global": (_cpu.semi_global, MATCHING),
}
ARRAYS = [
    (binding, name)
    for binding, (_, arguments) in BINDINGS.items()
    for name, value in arguments.items()
    if isinstance(value, torch.Tensor)
]


@pytest.mark.parametrize("binding, name", ARRAYS)
def test_arrays_go_in_as_they_are(binding, name):
    """What would be a silent copy, or be read or written past its end, is named."""
    function, arguments = BINDINGS[binding]
    array = arguments[name]
    assert array.ndim >= 1
    twice = torch.cat([array, array], dim=-1)
    wrong = {
        "integers": array.int(),
        "of another width": array.half(),
        "an axis more": array[None],
        "an axis less": array[0],
        "every other": twice[..., ::2],
        "the same again": array.flatten()[:1].expand(array.shape),
        "channels first": array.transpose(0, -1).contiguous().transpose(0, -1) if array.ndim > 1 else twice[::2],
    }
    function(**arguments)
    for what, form in wrong.items():
        with pytest.raises(ValueError, match=f"^{name} is ") as raised:
            function(**{**arguments, name: form})
        assert "needed" in str(raised.value), what


@pytest.mark.parametrize(
    "binding, change, words",
    [
        ("forward", {"means": torch.zeros(N, 2)}, r"means is \(4, 2\) of float32, needed \(any, 3\) of float32"),
        ("forward", {"quats": torch.ones(N - 1, 4)}, r"quats is \(3, 4\)"),
        ("forward", {"means": torch.zeros(N + 1, 3)}, r"quats is \(4, 4\) of float32, needed \(5, 4\)"),
        ("forward", {"colors": torch.ones(N, 2)}, "colors has 2 columns, needed 3"),
        ("forward", {"sh_degree": 1}, "colors has 3 columns, needed 12"),
        ("forward", {"sh_degree": 4}, "sh_degree is 4"),
        ("forward", {"sh_degree": -2}, "sh_degree is -2"),
        ("forward", {"viewmats": torch.eye(4)[None].repeat(2, 1, 1)}, r"Ks is \(1, 3, 3\) of float32, needed \(2, 3, 3\)"),
        ("forward", {"rgb": torch.zeros(1, W, H, 3)}, r"rgb is \(1, 8, 6, 3\)"),
        ("forward", {"depth": torch.zeros(1, H, 0)}, r"depth is \(1, 6, 0\)"),
        ("forward", {"alpha": torch.zeros(1, 0, 65537)}, "alpha has 65537 x 0 pixels"),
        ("forward", {"near_plane": 0.0}, "near_plane"),
        ("forward", {"near_plane": NAN}, "near_plane"),
        ("forward", {"near_plane": 1e-60}, "near_plane"),
        ("forward", {"far_plane": NAN}, "far_plane"),
        ("forward", {"far_plane": 0.01}, "far_plane"),
        ("forward", {"eps2d": -1.0}, "eps2d"),
        ("forward", {"eps2d": INF}, "eps2d"),
        ("forward", {"threads": 0}, "threads is 0"),
        ("forward", {"threads": -1}, "threads is -1"),
        ("forward", {"threads": 2**31 - 1}, "threads is 2147483647, needed 1 to 65536"),
        ("backward", {"means": torch.zeros(N + 1, 3)}, "quats is"),
        ("backward", {"rgb": torch.zeros(1, H, W + 1, 3)}, r"rgb is \(1, 6, 9, 3\)"),
        ("backward", {"alpha": torch.zeros(1, H + 1, W)}, r"alpha is \(1, 7, 8\)"),
        ("backward", {"grad_rgb": torch.zeros(1, H, W)}, r"grad_rgb is \(1, 6, 8\)"),
        ("backward", {"grad_colors": torch.zeros(N, 12)}, r"grad_colors is \(4, 12\)"),
        ("backward", {"grad_viewmats": torch.zeros(2, 4, 4)}, "context is of 1 views, grad_viewmats of 2"),
        ("backward", {"context": _cpu.forward(**{**FORWARD, "keep": False})}, "context is of 0 views, grad_viewmats of 1"),
        ("backward", {"threads": 0}, "threads is 0"),
        ("forward", {"median": None}, "depth and median are only drawn together"),
        ("forward", {"kept": torch.ones(N).byte()}, "kept is for Gaussians before their activation"),
        ("forward before activation", {"sh_degree": -1}, "sh_degree is -1, needed 0 to 3"),
        ("forward before activation", {"kept": torch.ones(N + 1).byte()}, r"kept is \(5\)"),
        ("forward before activation", {"kept_factor": 0.9}, "kept_factor is 0.9"),
        ("forward before activation", {"kept_factor": INF}, "kept_factor is inf"),
        ("update", {"values": with_one(TRAINED, 0, torch.ones(N + 1, 3))}, r"quats is \(4, 4\)"),
        ("update", {"values": with_one(TRAINED, 4, torch.ones(N, 51))}, "sh has 51 numbers in a row, needed 48"),
        ("update", {"means": with_one(TRAINED, 3, torch.ones(N, 1))}, r"mean of logit_opacities is \(4, 1\)"),
        ("update", {"squares": with_one(TRAINED, 1, torch.ones(4, N).T[:3])}, r"square of quats is \(3, 4\)"),
        ("update", {"rates": with_one(TRAINED, 0, torch.ones(3).double())}, "rates of means is"),
        ("update", {"context": _cpu.forward(**{**RAW, "keep": False})}, "context is of 0 views, needed 1"),
        ("update", {"grad_rgb": torch.zeros(1, H, W)}, r"grad_rgb is \(1, 6, 8\)"),
        ("update", {"kept": torch.ones(N - 1).byte()}, r"kept is \(3\)"),
        ("update", {"beta1": 1.0}, "beta1 is 1"),
        ("update", {"beta2": NAN}, "beta2 is nan"),
        ("update", {"step": 0}, "step is 0"),
        ("update", {"eps": 0.0}, "eps is 0"),
        ("update", {"opacity_decay": torch.ones(N + 1)}, "opacity_decay"),
        ("update", {"threads": 0}, "threads is 0"),
        ("ssim_target", {"image": torch.zeros(3, 0, W)}, "image has 8 x 0 pixels, needed 1 to 65536 on each side"),
        ("ssim_target", {"image": torch.zeros(3, 1, 65537)}, "image has 65537 x 1 pixels"),
        ("ssim_target", {"threads": 0}, "threads is 0"),
        ("photometric_loss", {"image": torch.zeros(H, W + 1, 3)}, r"image is \(6, 9, 3\)"),
        ("photometric_loss", {"mask": torch.ones(H, W - 1).byte()}, r"mask is \(6, 7\)"),
        ("photometric_loss", {"ssim_weight": NAN}, "ssim_weight is nan"),
        ("photometric_loss", {"threads": 0}, "threads is 0"),
        ("zncc_sweep", {"reference": torch.zeros(0, W)}, "reference has 8 x 0 pixels"),
        ("zncc_sweep", {"sources": []}, "sources is empty"),
        ("zncc_sweep", {"sources": [torch.zeros(H, W).double()]}, r"sources\[0\] is \(6, 8\) of float64"),
        ("zncc_sweep", {"sources": [torch.zeros(H, 0)]}, r"sources\[0\] has 0 x 6 pixels"),
        ("zncc_sweep", {"sources": [torch.full((H, W), NAN)]}, r"sources\[0\] holds infinity or NaN"),
        ("zncc_sweep", {"transfers": torch.zeros(2, 3, 4).double()}, r"transfers is \(2, 3, 4\)"),
        ("zncc_sweep", {"depths": torch.zeros(0)}, "depths has 0 planes"),
        ("zncc_sweep", {"window": 4}, "window is 4"),
        ("zncc_sweep", {"window": -5}, "window is -5"),
        ("zncc_sweep", {"noise": 0.0}, "noise is 0"),
        ("zncc_sweep", {"noise": NAN}, "noise is nan"),
        ("zncc_sweep", {"scores": torch.zeros(H, W, 3)}, r"scores is \(6, 8, 3\)"),
        ("zncc_sweep", {"threads": 0}, "threads is 0"),
        ("semi_global", {"costs": torch.zeros(H, W, 0), "total": torch.zeros(H, W, 0)}, "costs has 0 planes"),
        ("semi_global", {"costs": torch.zeros(0, W, 2), "guide": torch.zeros(0, W)}, "costs has 8 x 0 pixels"),
        ("semi_global", {"guide": torch.zeros(W, H)}, r"guide is \(8, 6\)"),
        ("semi_global", {"small": NAN}, "small is nan"),
        ("semi_global", {"large": -1.0}, "large is -1"),
        ("semi_global", {"edge_weight": NAN}, "edge_weight is nan"),
        ("semi_global", {"paths": 2}, "paths is 2"),
        ("semi_global", {"total": torch.zeros(H, W, 1)}, r"total is \(6, 8, 1\)"),
        ("semi_global", {"threads": 0}, "threads is 0"),
    ],
)  # fmt: skip
def test_bindings_name_what_is_wrong(binding, change, words):
    function, arguments = BINDINGS[binding]
    with pytest.raises(ValueError, match=words):
        function(**{**arguments, **change})


def test_a_context_belongs_to_its_gaussians():
    fewer = {name: FORWARD[name][1:] for name in GAUSSIANS if name != "sh_degree"}
    other = _cpu.forward(**{**FORWARD, **fewer})
    with pytest.raises(ValueError, match="context is of 3 Gaussians, means of 4"):
        _cpu.backward(**{**BACKWARD, "context": other})


def test_results_need_memory_to_write_to():
    locked = torch.zeros(1, H, W).numpy()
    locked.flags.writeable = False
    with pytest.raises(TypeError):
        _cpu.forward(**{**FORWARD, "alpha": locked})


def test_too_many_gaussians_for_the_regions(threads):
    """33000 Gaussians over all of the 256 x 256 regions are more than 2^31 pairs: told before any memory is taken for them, and
    before the 2 GB of the picture are touched."""
    count, size = 33_000, 8192
    assert count * (size // 32) ** 2 > 2**31
    for number in (1, 2):
        threads(number)
        with pytest.raises(ValueError, match=r"^means: these Gaussians meet 2\^31 or more regions"):
            cpu.rasterize(
                torch.tensor([[0.0, 0.0, 2.0]]).repeat(count, 1),
                torch.ones(count, 4),
                torch.full((count, 3), 5.0),
                torch.full((count,), 0.5),
                torch.ones(count, 3),
                torch.eye(4)[None],
                torch.tensor([[[4096.0, 0, 4096], [0, 4096, 4096], [0, 0, 1]]]),
                size,
                size,
            )


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_threads_that_cannot_be_started_are_done_without(tmp_path):
    """Where a stack of 1 GB does not fit into what memory there is, the caller draws alone."""
    script = textwrap.dedent("""
        import resource, torch
        from support.gaussian_scenes import random_scene
        from sparse3d.kernels import cpu
        scene = random_scene(0, count=300, width=300, height=300)
        torch.set_num_threads(1)
        want = scene.draw(cpu.rasterize)
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + 500_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        torch.set_num_threads(8)
        got = scene.draw(cpu.rasterize)
        torch.set_num_threads(1)  # PyTorch's own threads end the process
        assert torch.equal(got.rgb, want.rgb)
    """)
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    command = ["sh", "-c", 'ulimit -s 1000000 && exec "$@"', "sh", sys.executable, "-c", script]
    environment = {**os.environ, "PYTHONPATH": here}
    done = subprocess.run(
        command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
