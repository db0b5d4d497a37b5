"""Runs the tests of the compiled kernels under the address and undefined-behaviour sanitizers: python tests/sanitize.py

Builds the package once more with SPARSE3D_SANITIZE and installs it into build/sanitize/venv, a bare environment that sees the
packages of this one. Python and PyTorch are not instrumented; the sanitizers' libraries are loaded before them. Needs g++ or
clang++ with those libraries. Arguments go to pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "sanitize"
SANITIZERS = "address,undefined"
TESTS = [
    "tests/parity",
    "--ignore=tests/parity/test_triton.py",  # none of ours in C++
    "--ignore=tests/parity/test_cpu_memory.py",  # freed memory is kept, to see who still reads it
    # the sanitizer's own allocator may be locked for ever in a child
    "--deselect=tests/parity/test_cpu_threads.py::test_fork_in_the_middle_of_a_call",
]
RUNTIMES = ("libasan.so", "libubsan.so")


def make_environment() -> Path:
    """Its Python. Of this environment's packages it sees all but those that are installed editable, as sparse3d is."""
    folder = FOLDER / "venv"
    venv.create(folder, clear=True, with_pip=False, symlinks=True)
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    outer = [path for path in sys.path if path.endswith("site-packages")]
    (Path(paths["purelib"]) / "outer.pth").write_text("\n".join(outer) + "\n")
    return Path(paths["scripts"]) / "python"


def runtimes() -> str:
    """The sanitizers' libraries, for LD_PRELOAD."""
    compiler = os.environ.get("CXX", "g++")
    found = []
    for name in RUNTIMES:
        ask = subprocess.run([compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True)
        found.append(ask.stdout.strip())
        if not Path(found[-1]).is_absolute():
            raise SystemExit(
                f"{compiler} has no {name}. Debian has it in the package libgcc-*-dev; or set CXX to another compiler"
            )
    return " ".join(found)


def main() -> int:
    """pytest's exit code, which the sanitizers' findings make another than 0."""
    preload = runtimes()
    python = make_environment()
    options = [
        f"-Cbuild-dir={FOLDER / 'build'}",
        f"-Ccmake.define.SPARSE3D_SANITIZE={SANITIZERS}",
        "-Ccmake.build-type=RelWithDebInfo",
        "-Cinstall.strip=false",
    ]
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", *options, ROOT], check=True)
    environment = {
        **os.environ,
        "LD_PRELOAD": preload,
        "ASAN_OPTIONS": "detect_leaks=0",  # Python keeps what it has until it ends
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }
    # what a sanitizer writes before it ends the process must not be captured
    test = [python, "-m", "pytest", "-q", "--capture=sys", "-p", "no:cacheprovider", *(sys.argv[1:] or TESTS)]
    return subprocess.run(test, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
