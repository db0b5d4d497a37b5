"""Pipelines of diffusers with random weights, small enough for tests: the published classes, none of their quality."""

from __future__ import annotations

from typing import Any

import torch


def tiny_svd() -> Any:
    """A StableVideoDiffusionPipeline of 2 million weights for 4 frames, whose VAE shrinks by 2."""
    from diffusers import (
        AutoencoderKLTemporalDecoder,
        EulerDiscreteScheduler,
        StableVideoDiffusionPipeline,
        UNetSpatioTemporalConditionModel,
    )
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    unet = UNetSpatioTemporalConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=4,
        num_frames=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        block_out_channels=(32, 64),
        layers_per_block=1,
        num_attention_heads=(2, 4),
        cross_attention_dim=32,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
    )
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 64),
        latent_channels=4,
        layers_per_block=1,
        sample_size=32,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
    )
    clip = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32,
            projection_dim=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=224,
            intermediate_size=37,
            patch_size=32,
        )
    )
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        interpolation_type="linear",
        prediction_type="v_prediction",
        use_karras_sigmas=True,
        timestep_type="continuous",
        timestep_spacing="leading",
        steps_offset=1,
        sigma_min=0.002,
        sigma_max=700.0,
    )
    pipeline = StableVideoDiffusionPipeline(vae.eval(), clip.eval(), unet.eval(), scheduler, CLIPImageProcessorPil())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
