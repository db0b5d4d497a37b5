"""A killed run goes on, and ends at the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from support.commands import SMALL


@pytest.mark.parametrize("refine", ["off", "on"])
def test_a_run_killed_while_optimizing_ends_at_the_same_scene(refine, photos, repository, tmp_path):
    cameras = repository / "examples" / "ground_truth" / "transforms.json"
    settings = [*SMALL, "--poses", cameras, "--set", "optimize.steps=150", "--set", "optimize.checkpoint_interval=20"]
    settings += ["--set", f"optimize.refine_cameras={refine}"]

    def command(output: str) -> list[str]:
        main = "import sys; from sparse3d.cli import main; main()"
        return [sys.executable, "-c", main, "recon", str(photos), "-o", str(tmp_path / output), *map(str, settings)]

    subprocess.run(command("whole"), cwd=tmp_path, check=True, capture_output=True)

    checkpoint = tmp_path / "killed" / "stages" / "optimize.checkpoint"
    process = subprocess.Popen(command("killed"), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, "the run ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert checkpoint.exists() and not (tmp_path / "killed" / "scene.ply").exists()

    resumed = subprocess.run(command("killed"), cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "resuming at step" in resumed.stderr
    assert not checkpoint.exists()
    for file in ("scene.ply", "cameras/transforms.json"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
