"""What each image shows, at full resolution: ResNet and ViT features, added up."""

from __future__ import annotations

from torch import Tensor, nn

from sparse3d.init.networks.pixelsplat.resnet import ResNetFeatures
from sparse3d.init.networks.pixelsplat.vit import VisionTransformer


def _token_mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, inputs), nn.ReLU(), nn.Linear(inputs, outputs))


class Backbone(nn.Module):
    """Sum of the ResNet's features, of the class token for every pixel, and of each patch's token for the pixels in it."""

    def __init__(self, dino: VisionTransformer, resnet: ResNetFeatures, outputs: int = 512) -> None:
        super().__init__()
        self.dino = dino
        self.resnet_backbone = resnet
        width = dino.cls_token.shape[-1]
        self.global_token_mlp = _token_mlp(width, outputs)
        self.local_token_mlp = _token_mlp(width, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Features of every pixel. (V, 3, H, W) in [0, 1] -> (V, outputs, H, W)"""
        whole, patches = self.dino(images)
        tokens = self.local_token_mlp(patches.movedim(1, -1)) + self.global_token_mlp(whole)[:, None, None]
        features = self.resnet_backbone(images)
        patch = self.dino.patch
        cells = features.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))  # (V, C, rows, patch, columns, patch)
        cells += tokens.movedim(-1, 1)[:, :, :, None, :, None]
        return features
