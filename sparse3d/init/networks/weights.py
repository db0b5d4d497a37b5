"""Where the weights of a network for first Gaussians are."""

from __future__ import annotations

from pathlib import Path

from sparse3d.errors import UserError, did_you_mean
from sparse3d.models import store
from sparse3d.models.registry import REGISTRY, HubFile

OWN = "costvolume"  # trained by us: bundled once its weights ship, else made with `sparse3d train`
DEFAULTS = {OWN: OWN, "mvsplat": "mvsplat", "pixelsplat": "pixelsplat", "depthsplat": "depthsplat-small-re10k"}


def find_weights(method: str, given: str, accept_license: bool) -> tuple[Path, str]:
    """The file with the weights of a network, and their name in the registry where they have one.

    Args:
        method: costvolume, mvsplat, pixelsplat or depthsplat.
        given: Empty for the registry's first ones, a name there, an existing file, or `owner/name/file` on the hub.
        accept_license: The user read and accepted the licence of a hub file that the registry does not know.

    Returns:
        The file, and "" where it is none of the registry's.

    Raises:
        UserError: not on this machine, nothing of that name, or a licence that is to be accepted first.
    """
    names = [name for name in REGISTRY if name.startswith(method)]
    name = given or DEFAULTS[method]
    if name == OWN and OWN not in REGISTRY:
        raise UserError(
            "this sparse3d ships no weights of its cost-volume network. Train some with: sparse3d train costvolume, and give them with "
            "--weights FILE; or leave out --init costvolume"
        )
    if name in names:
        return store.require(name), name
    if Path(name).expanduser().exists():
        path = Path(name).expanduser()
        return path, next((known for known in names if _filename(known) == path.name), "")
    parts = name.split("/")
    if len(parts) < 3 or name.startswith((".", "/", "~")):
        raise UserError(
            f"no weights {name!r}{did_you_mean(name, names)}. Give one of {', '.join(names)}, an existing file, or owner/name/file on "
            "the hub"
        )
    repo, file = "/".join(parts[:2]), "/".join(parts[2:])
    for known in names:
        source = REGISTRY[known].source
        if isinstance(source, HubFile) and (source.repo, source.path) == (repo, file):
            return store.require(known), known
    return _from_hub(repo, file, accept_license), ""


def _filename(name: str) -> str:
    source = REGISTRY[name].source
    return source.filename if isinstance(source, HubFile) else ""


def _from_hub(repo: str, file: str, accept_license: bool) -> Path:
    """A file that huggingface_hub has in its cache, or gets; with HF_HUB_OFFLINE=1 only the former."""
    import huggingface_hub

    if not accept_license:
        raise UserError(
            f"there is no file {repo}/{file}. If it is one of the hub: the licence of {repo} is not known here. Read it at "
            f"https://huggingface.co/{repo}, and if you accept it, say so with --set init.accept_license=true"
        )
    try:
        return Path(huggingface_hub.hf_hub_download(repo, file))
    except Exception as error:  # the library lets through whatever its HTTP client raises, and that has changed
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{file} of {repo} could not be had from the hub: {said}. Download it elsewhere, and give the file with --weights"
        ) from error
