"""The compiled kernels with many threads, many callers, and after a fork: the same bits always. Eight threads are more than the
machines that run this have cores, so that they are interrupted anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import torch
from support.gaussian_scenes import outputs_and_gradients, random_scene

if os.environ.get("SPARSE3D_PURE"):
    pytest.skip("SPARSE3D_PURE is set: this install has no compiled kernels", allow_module_level=True)

from sparse3d.kernels import cpu, cpu_loss

TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("count", [2, 3, 8, 100])
def test_thread_count_changes_no_bit(count, threads, isa):
    scene = random_scene(12, count=3000, views=2, width=150, height=101, sh_degree=1, antialiased=True)
    threads(1)
    alone = outputs_and_gradients(cpu.rasterize, scene)
    threads(count)
    together = outputs_and_gradients(cpu.rasterize, scene)
    for name, value in alone.items():
        assert torch.equal(value, together[name]), name


@pytest.mark.parametrize("number", [2, 8])
def test_callers_do_not_disturb_each_other(number, threads):
    """One of them has the pool at a time; the others do all the work themselves."""
    threads(number)
    scenes = [random_scene(seed, count=800, width=80, height=60) for seed in range(4)]
    image, target = torch.rand(2, 3, 150, 140, generator=torch.Generator().manual_seed(0))
    want = [outputs_and_gradients(cpu.rasterize, scene) for scene in scenes]
    want_loss = cpu_loss.photometric_loss(image, target, 0.2)
    got: list[list[dict[str, torch.Tensor]]] = [[] for _ in scenes]

    def draw(k: int) -> None:
        torch.set_num_threads(number)  # each thread of Python's has a number of its own
        for _ in range(5):
            result = outputs_and_gradients(cpu.rasterize, scenes[k])
            got[k].append({**result, "loss": cpu_loss.photometric_loss(image, target, 0.2)})

    callers = [threading.Thread(target=draw, args=(k,)) for k in range(len(scenes))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for k in range(len(scenes)):
        assert len(got[k]) == 5
        for result in got[k]:
            assert torch.equal(result["loss"], want_loss)
            for name, value in want[k].items():
                assert torch.equal(value, result[name]), name


def run_script(script: str, folder: Path) -> None:
    """In a process of its own: to fork the one that runs the tests would bring along whatever ran before."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=False, cwd=folder, capture_output=True, text=True,
        timeout=120, env={**os.environ, "PYTHONPATH": str(TESTS)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_workers_draw_and_differentiate(tmp_path):
    """The pool's threads do not survive a fork; each child starts its own. (PyTorch's do not either, and it waits for them: tensors
    are below the size from which it uses any.)"""
    script = """
        import multiprocessing, torch
        from support.gaussian_scenes import outputs_and_gradients, random_scene
        from sparse3d.kernels import cpu
        torch.set_num_threads(8)
        scene = random_scene(1, count=800, width=80, height=60)
        want = outputs_and_gradients(cpu.rasterize, scene)
        def work(results):
            torch.set_num_threads(8)
            got = outputs_and_gradients(cpu.rasterize, scene)
            results.put(all(torch.equal(got[name], want[name]) for name in want))
        context = multiprocessing.get_context("fork")
        results = context.SimpleQueue()
        children = [context.Process(target=work, args=(results,)) for _ in range(3)]
        for child in children: child.start()
        for child in children: child.join(60)
        assert [child.exitcode for child in children] == [0, 0, 0]
        assert all(results.get() for _ in children)
    """
    run_script(script, tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_in_the_middle_of_a_call(tmp_path):
    """Another thread is drawing, so that the kernels' locks may be held for ever in the child."""
    script = """
        import os, signal, threading, torch
        from sparse3d.kernels import _cpu
        n, size = 2000, 64
        g = torch.Generator().manual_seed(0)
        gaussians = [torch.rand(n, 3, generator=g) + torch.tensor([-0.5, -0.5, 2.0]), torch.randn(n, 4, generator=g),
                     torch.full((n, 3), 0.05), torch.full((n,), 0.5), torch.rand(n, 3, generator=g)]
        K = torch.tensor([[[64.0, 0, 32], [0, 64, 32], [0, 0, 1]]])
        def draw():
            out = [torch.empty(1, size, size, 3)] + [torch.empty(1, size, size) for _ in range(3)]
            _cpu.forward(*gaussians, torch.eye(4)[None], K, torch.zeros(3), -1, 0.01, 1e10, 0.3, False, *out, True,
                         False, None, 1.0, 4)
            return out[0]
        want = draw()
        over = threading.Event()
        def keep_drawing():
            while not over.is_set(): draw()
        other = threading.Thread(target=keep_drawing)
        other.start()
        codes = []
        for _ in range(20):
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                os._exit(0 if torch.equal(want, draw()) else 3)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        over.set()
        other.join()
        assert codes == [0] * 20, codes
    """
    run_script(script, tmp_path)
