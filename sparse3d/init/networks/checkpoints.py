"""Published checkpoints into the networks written anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from torch import Tensor, nn

from sparse3d.models.weights import check_manifest, load_state

_PREFIX = "encoder."  # the published files hold a model whose one part with tensors is its encoder
_NOTHING: Mapping[str, tuple[int, ...]] = MappingProxyType({})

Network = TypeVar("Network", bound=nn.Module)


def read_state(path: Path, *, optional: bool = False) -> dict[str, Tensor]:
    """The tensors of a published encoder, named without `encoder.` in front.

    Args:
        path: A checkpoint of PyTorch Lightning (the tensors are under `state_dict`), or a .safetensors file of the tensors
            alone; names with `encoder.` in front or without.
        optional: A file without `state_dict` may have the tensors at the top.

    Raises:
        UserError: the file is absent, damaged or holds code.
    """
    bare = path.suffix == ".safetensors" or path.is_dir()
    state = load_state(path, inside=None if bare else "state_dict", optional=optional)
    return {name.removeprefix(_PREFIX): value for name, value in state.items()}


def filled(
    network: Network, state: Mapping[str, Tensor], what: str, unread: Mapping[str, tuple[int, ...]] = _NOTHING
) -> Network:
    """The network with tensors in it, ready to predict.

    Args:
        network: Changed in place.
        state: As `read_state` gives them.
        what: What messages call the weights.
        unread: Names and shapes of what files hold beyond what the network uses. A file may lack them.

    Raises:
        UserError: the tensors are not exactly those of the network.
    """
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    check_manifest(state, {**shapes, **unread}, what=what, computed=unread)
    network.load_state_dict({name: state[name] for name in shapes})
    return network.eval()


def with_weights(network: Network, path: Path, what: str) -> Network:
    """The network with the weights of a file in it, ready to predict: `filled` with `read_state`."""
    return filled(network, read_state(path), what)
