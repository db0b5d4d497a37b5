"""The Triton kernels: in Triton's interpreter, through its compiler, and on a GPU where there is one.

Each in a process of its own: Triton decides at its first import whether it interprets.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="needs Triton: pip install -c constraints.txt -e '.[dev]'")

CASES = ("triton_sweep_cases.py", "triton_loss_cases.py")

COMPILE = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from sparse3d.kernels import triton_kernels, triton_loss_kernels

IMAGES = (
    "reference", "source", "sources", "transfer", "transfers", "depths", "relief", "scores", "volumes",
    "image", "target", "window", "slopes", "losses", "gradient",
)
LOSS = {"TAPS": 11, "BLOCK": 128}
for module, name, sizes in (
    (triton_kernels, "zncc", {"WINDOW": 7, "BLOCK": 256}),
    (triton_kernels, "census", {"COLUMNS": 9, "ROWS": 7, "BLOCK": 256}),
    (triton_kernels, "correlate", {"CHANNELS": 64, "BLOCK": 32}),
    (triton_kernels, "pooled", {"BLOCK": 256}),
    (triton_loss_kernels, "compare", {"MASKED": False, "GRADIENT": False, **LOSS}),
    (triton_loss_kernels, "compare", {"MASKED": True, "GRADIENT": True, **LOSS}),
    (triton_loss_kernels, "spread", {"MASKED": True, **LOSS}),
):
    kernel = getattr(module, name)
    types = {}
    for argument in kernel.arg_names:
        pointer = argument in IMAGES and not (name == "pooled" and argument == "sources")
        number = "fp32" if argument in ("noise", "scale", "l1_weight", "ssim_weight") else "i32"
        types[argument] = "*fp32" if pointer else "constexpr" if argument in sizes else number
    if "mask" in types:
        types["mask"] = "*u8"
    for ones in (False, True):  # Triton compiles anew for whole numbers that are 1
        constants = dict(sizes)
        if ones:
            constants.update({argument: 1 for argument, type in types.items() if type == "i32"})
        signature = {argument: "constexpr" if argument in constants else type for argument, type in types.items()}
        for capability in (80, 90):
            compiled = compile(ASTSource(kernel, signature, constants), target=GPUTarget("cuda", capability, 32))
            assert "cubin" in compiled.asm
            print(name, capability)
"""


def run(*arguments: str, interpret: str, tmp_path: Path) -> str:
    """Output of Python with these arguments; fails with it where the process fails."""
    environment = {**os.environ, "TRITON_INTERPRET": interpret, "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("cases", CASES)
def test_in_the_interpreter(cases, tmp_path):
    pytest.importorskip("triton", minversion="3.7", reason="needs Triton 3.7: NumPy 2.4 breaks older interpreters")
    assert " passed" in run(
        "-m", "pytest", "-q", str(Path(__file__).with_name(cases)), interpret="1", tmp_path=tmp_path
    )


def test_kernels_compile_for_a_gpu(tmp_path):
    """Down to machine code for compute capability 8.0 and 9.0, for which no GPU is needed."""
    assert run("-c", COMPILE, interpret="0", tmp_path=tmp_path).count("\n") == 28


@pytest.mark.cuda
@pytest.mark.parametrize("cases", CASES)
def test_on_a_gpu(cases, tmp_path):
    assert " passed" in run(
        "-m", "pytest", "-q", str(Path(__file__).with_name(cases)), interpret="0", tmp_path=tmp_path
    )
