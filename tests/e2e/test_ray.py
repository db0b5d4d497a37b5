"""A Ray cluster of two nodes on this machine, one of which dies while it works."""

from __future__ import annotations

import shutil
import tarfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from sparse3d.batch.find import Defaults, find_jobs
from sparse3d.batch.job import Outcome
from sparse3d.batch.ray_engine import RayEngine, packed, unpack
from sparse3d.batch.run import batch, todo
from sparse3d.errors import UserError

SETTINGS = ("photos.max_size=160", "init.planes=32", "optimize.steps=20", "pose.max_size=320")


@pytest.fixture
def cluster():
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'sparse3d[ray]'")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def jobs(photos, repository, tmp_path):
    for name in ("first", "second"):
        (tmp_path / "sets" / name).mkdir(parents=True)
        for number in (1, 2, 3):
            shutil.copy(photos / f"room_0{number}.jpg", tmp_path / "sets" / name)
    cameras = str(repository / "examples" / "ground_truth" / "transforms.json")
    return find_jobs([tmp_path / "sets"], Defaults(str(tmp_path / "out"), "fast", SETTINGS, cameras))


def test_scenes_survive_the_loss_of_a_node(cluster, jobs, tmp_path):
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    began: set[str] = set()
    killed = []

    def tell(name: str, said) -> None:
        if said["stage"] == "init":
            began.add(name)
        if began and not killed:
            killed.append(nodes[0])
            cluster.remove_node(nodes[0], allow_graceful=False)

    ended: dict[str, Outcome] = {}
    engine = RayEngine(cluster.address, cpus=1)
    work = todo(jobs, tmp_path / "out" / "batch.json")
    counts = batch(work, engine, tell, lambda job, outcome: ended.update({job.name: outcome}))
    assert killed and counts == {"done": 2}, ended
    first, second = ((tmp_path / "out" / name / "scene.ply").read_bytes() for name in ("first", "second"))
    assert first == second, "the same photos, the same bytes, on whichever node"
    assert all(outcome.facts["node"] for outcome in ended.values())


def test_photos_go_along_and_scenes_come_back(cluster, jobs, tmp_path):
    cluster.add_node(num_cpus=1)
    work = todo(jobs[:1], tmp_path / "out" / "batch.json")
    counts = batch(work, RayEngine(cluster.address, cpus=1, ship=True), lambda *_: None, lambda *_: None)
    assert counts == {"done": 1}, work.record.scenes
    assert (tmp_path / "out" / "first" / "scene.ply").stat().st_size > 10_000
    assert todo(jobs[:1], tmp_path / "out" / "batch.json").done == ("first",)
    with pytest.raises(UserError, match="--ship"):
        next(RayEngine(cluster.address, ship=True).run([replace(jobs[0], output="s3://b/x")], lambda *_: None))


def test_what_comes_back_stays_in_its_folder(tmp_path):
    (tmp_path / "scene" / "views").mkdir(parents=True)
    (tmp_path / "scene" / "views" / "a.png").write_bytes(b"picture")
    unpack(packed(tmp_path / "scene"), tmp_path / "back")
    assert (tmp_path / "back" / "views" / "a.png").read_bytes() == b"picture"
    for name, kind in (("../evil", tarfile.REGTYPE), ("/tmp/evil", tarfile.REGTYPE), ("link", tarfile.SYMTYPE)):
        buffer = BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        with pytest.raises(UserError, match="which is no file within it"):
            unpack(buffer.getvalue(), tmp_path / "target")
    assert not (tmp_path / "evil").exists() and not Path("/tmp/evil").exists()
