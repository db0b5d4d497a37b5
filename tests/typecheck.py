"""Runs mypy on the installed package.

The package is mapped from top-level folders, which type checkers do not follow in an editable install: it is installed once
more, whole, into build/typed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TYPED = ROOT / "build" / "typed"


def main() -> int:
    """mypy's exit code."""
    shutil.rmtree(TYPED, ignore_errors=True)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(TYPED), str(ROOT)]
    subprocess.run(install, check=True)
    check = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "-p", "sparse3d"]
    return subprocess.run(check, cwd=TYPED, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
