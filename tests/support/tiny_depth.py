"""Depth networks of transformers, small and with random weights."""

from __future__ import annotations

from typing import Any

import torch


def _dinov2(**options: Any) -> Any:
    from transformers import Dinov2Config

    sizes = {"image_size": 56, "patch_size": 14, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
    return Dinov2Config(**(sizes | options))


def tiny_depth_anything(kind: str = "relative") -> tuple[Any, Any]:
    """DepthAnythingForDepthEstimation with its processor; `kind` as its configuration: relative or metric."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, DPTImageProcessorPil

    torch.manual_seed(0)
    backbone = _dinov2(
        out_features=["stage1", "stage2", "stage3", "stage4"], apply_layernorm=True, reshape_hidden_states=False
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        depth_estimation_type=kind,
        max_depth=20 if kind == "metric" else 1,
    )
    processor = DPTImageProcessorPil(
        size={"height": 56, "width": 56},
        keep_aspect_ratio=True,
        ensure_multiple_of=14,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    return DepthAnythingForDepthEstimation(config), processor


def tiny_depth_pro() -> Any:
    """DepthProForDepthEstimation of 64-pixel patches."""
    from transformers import DepthProConfig, DepthProForDepthEstimation

    torch.manual_seed(0)
    encoder = {
        "model_type": "dinov2",
        "image_size": 16,
        "patch_size": 4,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = DepthProConfig(
        patch_size=16,
        fusion_hidden_size=16,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[8, 8],
        scaled_images_ratios=[0.25, 0.5, 1.0],
        scaled_images_overlap_ratios=[0.0, 0.5, 0.25],
        scaled_images_feature_dims=[8, 8, 8],
        image_model_config=encoder,
        patch_model_config=encoder,
        fov_model_config=encoder,
        use_fov_model=True,
    )
    return DepthProForDepthEstimation(config)


def tiny_zoedepth() -> tuple[Any, Any]:
    """ZoeDepthForDepthEstimation with one head of 8 bins."""
    from transformers import BeitConfig, ZoeDepthConfig, ZoeDepthForDepthEstimation, ZoeDepthImageProcessorPil

    torch.manual_seed(0)
    backbone = BeitConfig(
        image_size=32,
        patch_size=8,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    )
    config = ZoeDepthConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[16, 16, 16, 16],
        fusion_hidden_size=16,
        bottleneck_features=16,
        num_attractors=[4, 2, 2, 1],
        bin_embedding_dim=16,
        num_relative_features=8,
        bin_configurations=[{"n_bins": 8, "min_depth": 0.1, "max_depth": 10.0, "name": "nyu"}],
    )
    processor = ZoeDepthImageProcessorPil(size={"height": 32, "width": 32}, ensure_multiple_of=32)
    return ZoeDepthForDepthEstimation(config), processor
