"""Which scenes a batch has, how the machine is divided, and what is recorded."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from sparse3d.batch.engine import LocalEngine, Slot, slots
from sparse3d.batch.find import Defaults, find_jobs, jobs_of_lines, shard
from sparse3d.batch.job import Job, Outcome
from sparse3d.batch.plan import plan_of
from sparse3d.batch.process import run_job
from sparse3d.batch.record import Record
from sparse3d.batch.remote import fetched, is_url, store
from sparse3d.batch.run import todo
from sparse3d.errors import UserError

OUT = Defaults("out", "fast", ("seed=1",))


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_every_folder_with_photos_is_a_scene(tmp_path):
    touch(tmp_path / "a", "1.jpg", "2.PNG")
    touch(tmp_path / "b" / "images", "1.heic")
    touch(tmp_path / "clips", "x.mp4", "y.mov")
    touch(tmp_path / "notes", "readme.txt")
    touch(tmp_path / ".hidden", "1.jpg")
    touch(tmp_path / "old_scene", "scene.json", "1.jpg")
    touch(tmp_path / "out" / "views", "1.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    jobs = find_jobs([tmp_path], Defaults(str(tmp_path / "out")))
    assert [job.name for job in jobs] == ["a", "b__images", "clips__x", "clips__y"]
    assert jobs[1].inputs == (str(tmp_path / "b" / "images"),) and jobs[1].output == f"{tmp_path}/out/b__images"
    assert [job.name for job in find_jobs([tmp_path / "a"], OUT)] == ["a"]


@pytest.mark.parametrize(
    ("make", "words"), [("nothing", "there is no"), ("empty", "no scenes in"), ("x.jpg", "neither a folder")]
)
def test_nothing_to_do_is_said(make, words, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.jpg").touch()
    with pytest.raises(UserError, match=words):
        find_jobs([tmp_path / make], OUT)


def test_manifests_of_both_kinds_say_the_same(tmp_path):
    (tmp_path / "list.csv").write_text(
        "name,photos,preset,seed,optimize.steps,set,holdout\nroom,photos/room,quality,7,30,init.planes=32; photos.max_size=160,4\n,s3://b/hall,,,,,\n"
    )
    rows = [
        {"name": "room", "photos": "photos/room", "preset": "quality", "seed": 7, "optimize.steps": 30, "holdout": 4,
         "set": {"init.planes": 32, "photos.max_size": 160}},
        {"photos": ["s3://b/hall"]},
    ]  # fmt: skip
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    first, second = find_jobs([tmp_path / "list.csv"], OUT)
    assert find_jobs([tmp_path / "list.jsonl"], OUT) == [first, second]
    assert first.inputs == (str(tmp_path / "photos" / "room"),) and first.preset == "quality" and first.holdout == 4
    assert set(first.settings) == {"seed=1", "seed=7", "optimize.steps=30", "init.planes=32", "photos.max_size=160"}
    assert first.settings.index("seed=1") < first.settings.index("seed=7")  # the row beats the command
    assert (second.name, second.inputs, second.preset) == ("hall", ("s3://b/hall",), "fast")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"photos": "a", "nam": "x"}, "unknown key 'nam'; did you mean 'name'"),
        ({"name": "x"}, "'photos' is None"),
        ({"photos": "a", "name": "../x"}, "cannot name a folder"),
        ({"photos": "a", "name": ".ssh"}, "cannot name a folder"),
        ({"photos": "a", "name": "c:x"}, "cannot name a folder"),
        ({"photos": "a", "holdout": -1}, "'holdout' is -1"),
        ({"photos": "a", "set": "steps"}, "needed assignments"),
        ({"photos": "a\0b"}, "is not a path"),
        ([1], "needed an object"),
    ],
)
def test_wrong_rows_are_named(row, words, tmp_path):
    file = tmp_path / "list.jsonl"
    file.write_text("\n" + json.dumps(row) + "\n")
    with pytest.raises(UserError, match="line 2.*" + words):
        find_jobs([file], OUT)


def test_lines_of_other_programs(tmp_path):
    touch(tmp_path / "a" / "photos", "1.jpg")
    touch(tmp_path / "b" / "photos", "1.jpg")
    paths = [str(tmp_path / name / "photos") for name in "ab"]
    jobs = jobs_of_lines("\n".join(paths) + '\n{"photos": "x", "name": "third"}\n', OUT)
    assert [job.inputs[0] for job in jobs] == [*paths, "x"]
    assert jobs[0].name.endswith("a__photos") and jobs[1].name.endswith("b__photos") and jobs[2].name == "third"
    assert [job.inputs for job in jobs_of_lines("\0".join(paths), OUT)] == [(path,) for path in paths]
    with pytest.raises(UserError, match="line 1 of standard input: there is no"):
        jobs_of_lines("missing\n", OUT)
    with pytest.raises(UserError, match="two scenes are called x"):
        jobs_of_lines('{"photos": "x"}\n{"photos": "x"}', OUT)


def test_shards_are_the_whole_without_overlap():
    jobs = [OUT.job(f"s{i}", ["x"]) for i in range(11)]
    parts = [shard(jobs, f"{i}/3") for i in (1, 2, 3)]
    assert sorted(job.name for part in parts for job in part) == sorted(job.name for job in jobs)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for wrong in ("0/3", "4/3", "1", "a/b", "1/0"):
        with pytest.raises(UserError, match="--shard"):
            shard(jobs, wrong)


def test_the_machine_is_divided():
    made = slots(3, list(range(8)), 12e9, [])
    assert [slot.threads for slot in made] == [2, 2, 2] and sum(slot.memory for slot in made) == 12e9
    cores = [core for slot in made for core in slot.cores]
    assert len(cores) == len(set(cores)) == (6 if hasattr(os, "sched_setaffinity") else 0)
    assert [slot.gpu for slot in slots(4, list(range(8)), 1e9, ["0", "1"])] == ["0", "1", "0", "1"]
    assert [slot.threads for slot in slots(4, [0, 1], 1e9, [])] == [1] * 4
    values = Slot(2, 4e9, (4, 5), "1").environment()
    assert values["OMP_NUM_THREADS"] == "2" and values["SPARSE3D_MEMORY"] == "4000000000"
    assert values["SPARSE3D_CORES"] == "4,5" and values["CUDA_VISIBLE_DEVICES"] == "1"


def test_what_is_left_to_do(tmp_path):
    state = tmp_path / "batch.json"
    touch(tmp_path / "photos", "1.jpg")
    jobs = [Job(name, (str(tmp_path / "photos"),), str(tmp_path / name), "fast") for name in ("a", "b", "c", "d")]
    first = todo(jobs, state)
    assert list(first.run) == ["a", "b", "c", "d"]
    first.record.queue(first.run)
    first.record.finish(jobs[0], Outcome("done"))
    first.record.finish(jobs[1], Outcome("failed", error="no", code=2))
    first.record.finish(jobs[2], Outcome("done"))
    for name in ("a", "c"):
        touch(tmp_path / name)
        (tmp_path / name / "scene.json").write_text(
            json.dumps({"format": 1, "stages": {"x": {"key": "k"}}, "published": {"x": "k" if name == "a" else "old"}})
        )
    again = todo(jobs, state)  # c is no longer whole, d was never reached
    assert (again.done, again.failed, list(again.run)) == (("a",), ("b",), ["c", "d"])
    assert again.record.counts(["a", "b"]) == {"done": 1, "failed": 1}
    assert list(todo(jobs, state, retry_failed=True).run) == ["b", "c", "d"]
    assert list(todo(jobs, state, resume=False).run) == ["a", "b", "c", "d"]
    assert list(todo(jobs, state, limit=1).run) == ["c"]
    touch(tmp_path / "photos", "2.jpg")
    assert list(todo(jobs, state).run) == ["a", "b", "c", "d"]  # a photo came: nothing is up to date
    with pytest.raises(UserError, match="stepz"):
        todo([Job("a", ("x",), "out", "fast", ("optimize.stepz=3",))], state)
    state.write_text("[]")
    with pytest.raises(UserError, match="is not the record of a batch"):
        todo(jobs, state)


def fake_worker(monkeypatch, tmp_path: Path, code: str) -> None:
    """Puts this code in the place of the worker's process."""
    program = tmp_path / "worker"
    program.write_text(f"#!/bin/sh\n{code}\n")
    program.chmod(0o755)
    monkeypatch.setattr("sparse3d.batch.process.sys.executable", str(program))


RESULT = """echo '{"event": "result", "facts": {"gaussians": 3}}'"""
JOB = Job("a", ("photos",), "out")


def outcome_of(**options) -> Outcome:
    return run_job(JOB, lambda name, said: None, environment={}, stop=threading.Event(), **options)


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_how_processes_end(monkeypatch, tmp_path):
    fake_worker(monkeypatch, tmp_path, f"read job; echo noise; {RESULT}")
    assert outcome_of().state == "done" and outcome_of().facts == {"gaussians": 3}
    fake_worker(monkeypatch, tmp_path, """read job; echo '{"event": "error", "message": "too few photos"}'; exit 2""")
    failed = outcome_of()
    assert (failed.state, failed.error, failed.code, failed.attempts) == ("failed", "too few photos", 2, 1)
    fake_worker(monkeypatch, tmp_path, "read job; echo one >&2; echo last words >&2; exit 1")
    assert (outcome_of().error, outcome_of().code) == ("last words", 1)
    fake_worker(monkeypatch, tmp_path, "read job; kill -9 $$")
    killed = outcome_of()
    assert killed.code == -9 and killed.attempts == 2 and "SIGKILL" in killed.error and "--workers" in killed.error
    fake_worker(
        monkeypatch,
        tmp_path,
        f"read job; test -e {tmp_path}/once || {{ touch {tmp_path}/once; kill -9 $$; }}; {RESULT}",
    )
    assert (outcome_of().state, (tmp_path / "once").exists()) == ("done", True)
    fake_worker(monkeypatch, tmp_path, "read job; exec sleep 60")
    late = outcome_of(timeout_s=0.3)
    assert late.state == "failed" and "longer than 0.3 s" in late.error and late.seconds < 10
    fake_worker(monkeypatch, tmp_path, "exit 1")  # gone before it reads
    assert outcome_of().state == "failed"


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_a_closed_batch_stops_its_processes(monkeypatch, tmp_path):
    fake_worker(
        monkeypatch,
        tmp_path,
        f"read job; case $job in *quick*) {RESULT};; *) echo $$ > {tmp_path}/pid; exec sleep 60;; esac",
    )
    engine = LocalEngine(tuple(slots(2, [0, 1], 1e9, [])))
    running = engine.run(
        [Job("quick", ("x",), "o"), Job("slow", ("x",), "o"), Job("never", ("x",), "o")], lambda name, said: None
    )
    job, outcome = next(running)
    assert job.name == "quick" and outcome.state == "done"
    running.close()
    if (tmp_path / "pid").exists():
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_plan_is_arithmetic(tmp_path):
    record = Record(tmp_path / "batch.json")
    jobs = [Job(name, ("x",), "o") for name in "abc"]
    record.queue({job.name: (job, "k") for job in jobs})
    for job, seconds in zip(jobs, (90.0, 110.0, 400.0), strict=True):
        state = "done" if seconds < 200 else "failed"
        record.finish(job, Outcome(state, seconds, facts={"peak_mb": 10 * seconds}))
    plan = plan_of(record, ["a", "b", "c"], 3600)
    assert (plan.measured, plan.seconds_mean, plan.worker_hours, plan.peak_mb) == (2, 100.0, 100.0, 1100.0)
    assert plan.seconds_spread == pytest.approx(200**0.5, abs=0.01)
    assert plan.hours(1) == 100 and plan.hours(3600) == pytest.approx(100 / 3600, abs=1e-3)
    assert plan.hours(1000) == pytest.approx(4 * 100 / 3600, abs=1e-3)  # four rounds, the last not full
    with pytest.raises(UserError, match="none of the scenes to measure was done"):
        plan_of(record, ["c"], 10)


def test_urls_are_fetched_and_stored(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    assert is_url("s3://bucket/a") and not is_url("C:\\photos") and not is_url("/a/b://c")
    memory = fsspec.filesystem("memory")
    for name in ("1.jpg", "2.jpg"):
        memory.pipe(f"/photos/room/{name}", name.encode())
    memory.pipe("/photos/room/deeper/3.jpg", b"not of this folder")
    folder = fetched("memory://photos/room", tmp_path / "in")
    assert (
        sorted(file.name for file in folder.iterdir()) == ["1.jpg", "2.jpg"]
        and (folder / "1.jpg").read_bytes() == b"1.jpg"
    )
    assert fetched("memory://photos/room/1.jpg", tmp_path / "one").read_bytes() == b"1.jpg"
    touch(tmp_path / "scene", "scene.json", ".lock", "scene.ply")
    touch(tmp_path / "scene" / "views", "a.png")
    store(tmp_path / "scene", "memory://scenes/room")
    assert sorted(memory.find("/scenes")) == [
        f"/scenes/room/{name}" for name in ("scene.json", "scene.ply", "views/a.png")
    ]
    with pytest.raises(UserError, match="nothing cannot be read: FileNotFoundError"):
        fetched("memory://nothing", tmp_path / "none")
    with pytest.raises(UserError, match="nowhere"):
        fetched("nowhere://x", tmp_path / "none")
