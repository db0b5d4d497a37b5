"""Which scenes a batch has: folders, manifests, lines of another program."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sparse3d.batch.job import Job
from sparse3d.batch.remote import is_url
from sparse3d.errors import UserError, did_you_mean
from sparse3d.io._fields import read_text
from sparse3d.io.images import IMAGE_SUFFIXES
from sparse3d.io.scene import MANIFEST
from sparse3d.io.video import VIDEO_SUFFIXES

MANIFEST_SUFFIXES = (".csv", ".jsonl", ".ndjson")
_KEYS = ("photos", "name", "preset", "poses", "holdout", "seed", "set")


@dataclass(frozen=True)
class Defaults:
    """What scenes are made with unless their row says otherwise."""

    output: str  # the folder, or URL, that scene folders go to
    preset: str = "balanced"
    settings: tuple[str, ...] = ()
    poses: str = ""
    holdout: int = 0

    def job(self, name: str, inputs: Sequence[str]) -> Job:
        output = f"{self.output.rstrip('/')}/{name}"
        return Job(name, tuple(inputs), output, self.preset, self.settings, self.poses, self.holdout)


def find_jobs(roots: Sequence[Path], defaults: Defaults) -> list[Job]:
    """The scenes of folders and manifests.

    Every folder that holds photos or a video, at any depth, is a scene, named by its path below the root; hidden folders, scene folders
    and the output are passed over. A .csv or .jsonl file is a manifest.

    Raises:
        UserError: nothing there, a wrong manifest, or two scenes of one name.
    """
    jobs: list[Job] = []
    for root in roots:
        if root.is_dir():
            jobs += _in_folder(root, defaults)
        elif root.suffix.lower() in MANIFEST_SUFFIXES:
            jobs += read_manifest(read_text(root), root.suffix.lower(), str(root), root.parent, defaults)
        elif root.exists():
            raise UserError(
                f"{root} is neither a folder nor a manifest ({', '.join(MANIFEST_SUFFIXES)}). For one scene use: sparse3d recon {root}"
            )
        else:
            raise UserError(f"there is no {root}. Name a folder of photo folders, or a manifest")
    if not jobs:
        raise UserError(
            f"no scenes in {', '.join(map(str, roots))}: needed are folders that hold photos ({', '.join(IMAGE_SUFFIXES)}) or a video"
        )
    return distinct(jobs)


def jobs_of_lines(text: str, defaults: Defaults) -> list[Job]:
    """One scene for each line: a folder, photo, video or URL, or an object as of a .jsonl manifest. `find -print0` is read too.

    Raises:
        UserError: no line, a path that is not there, a wrong object, or two scenes of one name.
    """
    lines = [line for line in re.split(r"[\0\n]" if "\0" not in text else r"\0", text) if line.strip()]
    if not lines:
        raise UserError("no scenes came on standard input: needed is one path or one JSON object a line")
    jobs = []
    for number, line in enumerate(lines, 1):
        where = f"line {number} of standard input"
        if line.lstrip().startswith("{"):
            jobs.append(_job(_object(line, where), where, Path(), defaults))
            continue
        given = line.rstrip("\r")
        if not is_url(given) and not Path(given).exists():
            raise UserError(f"{where}: there is no {given}")
        path = Path(given)
        jobs.append(defaults.job(_name(path.name if path.is_dir() else path.stem, where), [given]))
    return distinct(jobs)


def read_manifest(text: str, suffix: str, where: str, folder: Path, defaults: Defaults) -> list[Job]:
    """The scenes of a manifest: rows of a .csv with a header, or one JSON object a line.

    `photos` (required: a folder, file, URL, or a list of them), `name`, `preset`, `poses`, `holdout`, `seed`, `set` (a list, an object, or
    assignments with `;` between), and any setting by its own name, as `optimize.steps`.

    Args:
        text: Of the file.
        suffix: Says which of the two.
        where: The file, for messages.
        folder: What paths in it are relative to.
        defaults: Of what a row does not say.

    Raises:
        UserError: a row that is wrong; names it.
    """
    return [_job(row, place, folder, defaults) for place, row in _rows(text, suffix, where)]


def shard(jobs: Sequence[Job], text: str) -> list[Job]:
    """Every n-th scene: `2/5` gives the second, seventh, ..., so that five machines share the work.

    Raises:
        UserError: not such a share.
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(f"--shard {text}: needed i/n with i from 1 to n, as 2/5")
    return list(jobs[int(found[1]) - 1 :: int(found[2])])


def distinct(jobs: Sequence[Job]) -> list[Job]:
    """The jobs; where two would have one folder, named by more of their path.

    Raises:
        UserError: they cannot be told apart.
    """
    counts = Counter(job.name.casefold() for job in jobs)
    named = []
    for job in jobs:
        if counts[job.name.casefold()] > 1:
            longer = "__".join(part for part in Path(job.inputs[0]).parts if part not in ("/", "..", "."))
            job = replace(job, name=longer, output=f"{job.output.rpartition('/')[0]}/{longer}")
        named.append(job)
    counts = Counter(job.name.casefold() for job in named)
    for job in named:
        if counts[job.name.casefold()] > 1:
            raise UserError(f"two scenes are called {job.name}. Give them a `name` of their own in a manifest")
    return named


def _in_folder(root: Path, defaults: Defaults) -> Iterator[Job]:
    output = None if is_url(defaults.output) else Path(defaults.output).resolve()
    folders = [root]
    while folders:
        folder = folders.pop()
        if (folder / MANIFEST).is_file() or folder.resolve() == output:
            continue
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            raise UserError(f"{folder} cannot be read: {error.strerror or error}") from error
        entries = [entry for entry in entries if not entry.name.startswith(".")]
        # links to folders are not followed: they may lead back
        folders += reversed([entry for entry in entries if entry.is_dir() and not entry.is_symlink()])
        name = "__".join(folder.relative_to(root).parts) or root.resolve().name
        if any(entry.suffix.lower() in IMAGE_SUFFIXES for entry in entries):
            yield defaults.job(name, [str(folder)])
        elif videos := [entry for entry in entries if entry.suffix.lower() in VIDEO_SUFFIXES]:
            for video in videos:
                yield defaults.job(name if len(videos) == 1 else f"{name}__{video.stem}", [str(video)])


def _rows(text: str, suffix: str, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if suffix != ".csv":
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield f"{where}, line {number}", _object(line, f"{where}, line {number}")
        return
    try:
        for number, row in enumerate(csv.DictReader(io.StringIO(text), strict=True), 2):
            if None in row or any(key is None for key in row):
                raise UserError(f"{where}, row {number}: more columns than the header names")
            yield (
                f"{where}, row {number}",
                {key.strip(): value.strip() for key, value in row.items() if value and value.strip()},
            )
    except csv.Error as error:
        raise UserError(f"{where}: is not CSV: {error}") from error


def _object(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: holds a {type(row).__name__}, needed an object with keys")
    return row


def _job(row: Mapping[str, Any], where: str, folder: Path, defaults: Defaults) -> Job:
    for key in row:
        if key not in _KEYS and "." not in key:
            raise UserError(
                f"{where}: unknown key {key!r}{did_you_mean(key, _KEYS)}; known are {', '.join(_KEYS)}, and settings by name"
            )
    photos = row.get("photos")
    listed = [photos] if isinstance(photos, str) else photos
    if not isinstance(listed, list) or not listed or not all(isinstance(item, str) and item for item in listed):
        raise UserError(f"{where}: 'photos' is {photos!r}, needed a folder, a file or a list of files")
    inputs = [_place(item, folder, where) for item in listed]
    name = row.get("name", Path(inputs[0]).stem if len(inputs) > 1 or Path(inputs[0]).suffix else Path(inputs[0]).name)
    job = defaults.job(_name(name, where), inputs)
    settings = [*defaults.settings, *_assignments(row.get("set", []), where)]
    settings += [f"{key}={_value(value)}" for key, value in row.items() if "." in key]
    if "seed" in row:
        settings.append(f"seed={_value(row['seed'])}")
    try:
        holdout = int(row.get("holdout", defaults.holdout))
    except (TypeError, ValueError, OverflowError):
        holdout = -1
    if holdout < 0:
        raise UserError(f"{where}: 'holdout' is {row['holdout']!r}, needed a whole number, 0 for none")
    texts = {key: row.get(key, getattr(defaults, key)) for key in ("preset", "poses")}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise UserError(f"{where}: {key!r} is {value!r}, needed text")
    poses = _place(row["poses"], folder, where) if row.get("poses") else texts["poses"]
    return replace(job, settings=tuple(settings), holdout=holdout, preset=texts["preset"], poses=poses)


def _assignments(given: Any, where: str) -> list[str]:
    if isinstance(given, str):
        given = [part.strip() for part in given.split(";") if part.strip()]
    if isinstance(given, dict):
        given = [f"{key}={_value(value)}" for key, value in given.items()]
    if not isinstance(given, list) or not all(isinstance(item, str) and "=" in item for item in given):
        raise UserError(f"{where}: 'set' is {given!r}, needed assignments as optimize.steps=500")
    return given


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _place(text: str, folder: Path, where: str) -> str:
    if "\0" in text:
        raise UserError(f"{where}: {text!r} is not a path")
    return text if is_url(text) else str(folder / Path(text).expanduser())


def _name(name: Any, where: str) -> str:
    """A name that stays within the output folder."""
    if not isinstance(name, str) or not re.fullmatch(r"[^./\\\0-\x1f:][^/\\\0-\x1f:]{0,199}", name):
        raise UserError(
            f"{where}: {name!r} cannot name a folder: needed are up to 200 characters without / \\ : and not beginning with a dot. "
            "Give the scene a `name` in a manifest"
        )
    return name
