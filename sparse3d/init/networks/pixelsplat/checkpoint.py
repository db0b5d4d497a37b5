"""Published weights into the network, of the paper or of the first release."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sparse3d.errors import UserError
from sparse3d.init.networks.checkpoints import filled, read_state
from sparse3d.init.networks.pixelsplat.network import PixelSplat
from sparse3d.init.networks.pixelsplat.resnet import FrozenBatchNorm, stage
from sparse3d.init.networks.pixelsplat.transformer import EpipolarTransformer

_RESNET = "backbone.resnet_backbone.model"
_FIRST_RELEASE = "epipolar_transformer.transformer.layers.0.1.fn.layers."  # only there
_THREE_VIEWS = "epipolar_transformer.view_embeddings.weight"


def published(first_release: bool) -> PixelSplat:
    """The network as published with the paper, or as in the first release of the code, which has 8 tensors more."""
    return PixelSplat(epipolar_transformer=EpipolarTransformer(convolutions=first_release))


def load_network(path: Path) -> PixelSplat:
    """The network with the weights of a file, ready to predict: in float32 on the CPU.

    Args:
        path: re10k.ckpt, acid.ckpt or alike, of either release; see `read_state`.

    Raises:
        UserError: the file cannot be read, its tensors are not the network's, or it is the model for three views.
    """
    return with_state(read_state(path), str(path))


def with_state(state: Mapping[str, Tensor], what: str, build: Callable[[bool], PixelSplat] = published) -> PixelSplat:
    """As `load_network`, from tensors.

    Args:
        state: Named without `encoder.` in front.
        what: What messages call them.
        build: Makes the network, told whether it is that of the first release.
    """
    if _THREE_VIEWS in state:
        raise UserError(
            f"the weights {what} are pixelSplat's model for three views, which sparse3d does not have. "
            "Use the one for two views, re10k.ckpt: it takes more views pair by pair"
        )
    network = build(any(name.startswith(_FIRST_RELEASE) for name in state))
    return filled(network, state, what, unread=unread_shapes(network))


def unread_shapes(network: PixelSplat) -> dict[str, tuple[int, ...]]:
    """What published files hold besides the network's own tensors: ResNet's last stage, and counters of training steps."""
    model = network.backbone.resnet_backbone.model
    with torch.device("meta"):  # only shapes: these 60 MB are never made
        last = stage(model.channels[3], model.channels[3] // 2, blocks=3, stride=2)
    shapes = {f"{_RESNET}.layer4.{name}": tuple(value.shape) for name, value in last.state_dict().items()}
    norms = [*_norms(model, _RESNET), *_norms(last, f"{_RESNET}.layer4")]
    return shapes | {f"{name}.num_batches_tracked": () for name in norms}


def _norms(module: nn.Module, prefix: str) -> list[str]:
    return [f"{prefix}.{name}" for name, part in module.named_modules() if isinstance(part, FrozenBatchNorm)]
