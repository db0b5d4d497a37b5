"""The most that a core can do in fused multiply-adds, measured by a small C++ program."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "peers" / "fma_peak.cpp"


def fma_peaks(cache: Path) -> dict[str, float]:
    """GFLOP/s of one core by instruction set, as SPARSE3D_ISA names them; empty where it cannot be measured, and says why.

    Args:
        cache: Folder for the compiled program.
    """
    compiler = os.environ.get("CXX") or shutil.which("g++")
    if compiler is None or platform.machine() not in ("x86_64", "AMD64"):
        print("FMA peak not measured: that needs g++, or CXX set to GCC or Clang, and an x86-64 CPU")
        return {}
    cache.mkdir(parents=True, exist_ok=True)
    program = cache / "fma_peak"
    subprocess.run([compiler, "-O2", "-o", program, SOURCE], check=True)
    lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    return {name: float(peak) for name, peak in map(str.split, lines)}
