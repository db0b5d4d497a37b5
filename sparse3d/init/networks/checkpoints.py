"""Published checkpoints into the networks written anew."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from torch import nn

from sparse3d.models.weights import check_manifest, load_state

_PREFIX = "encoder."  # the published files hold a model whose one part with tensors is its encoder

Network = TypeVar("Network", bound=nn.Module)


def with_weights(network: Network, path: Path, what: str) -> Network:
    """The network with the weights of a file in it, ready to predict.

    Args:
        network: Changed in place.
        path: A checkpoint of PyTorch Lightning (the tensors are under `state_dict`), or a .safetensors file of the tensors
            alone; names with `encoder.` in front or without.
        what: What messages call the weights.

    Raises:
        UserError: the file is absent, damaged or holds code, or its tensors are not exactly those of the network.
    """
    bare = path.suffix == ".safetensors" or path.is_dir()
    state = load_state(path, inside=None if bare else "state_dict")
    state = {name.removeprefix(_PREFIX): value for name, value in state.items()}
    check_manifest(state, network, what=what)
    network.load_state_dict(state)
    return network.eval()
