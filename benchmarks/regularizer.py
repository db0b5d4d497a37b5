"""What a prior in the optimization is worth: held-out quality without it, with classical and with one that knows the truth.

    python benchmarks/regularizer.py fern fountain fox apartment_walk redkitchen kitchen --seeds 3
    python benchmarks/regularizer.py room --ways none refresh:classical refresh:oracle sds:oracle sample:oracle
    python benchmarks/regularizer.py --cost

Cameras are the sets' own. *unseen* is the share of a test view that the photos' depth says nothing of; *most unseen* is the PSNR of the third of the test views with
the largest shares, without the prior's difference to `none` for the same seed beside it. *calls* are those of the prior's network, or its views where it has none.
Only of `room`, the photos of examples/, is the truth known, so only there `oracle` can take part. `--cost` measures a step of each score loss on a random UNet of the kind
of Stable Diffusion's inpainting, reduced.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from harness.drawn_views import prior_of
from harness.memory import resident_mb
from harness.photo_sets import DATA, fold_of, with_given_cameras
from harness.room import room
from harness.tables import Table

from sparse3d.config import Config, load_config
from sparse3d.densify.known import Known
from sparse3d.init.initialization import Initialization, Origin
from sparse3d.init.initialize import initialize
from sparse3d.metrics.protocol import evaluate_views
from sparse3d.optimize.distill import Denoiser, lora_loss, sampled, sdi, sds, vsd
from sparse3d.optimize.loop import look_of, optimize
from sparse3d.pipeline.regularizer import regularizer_with, views_to_ask_for
from sparse3d.progress import StageReporter
from sparse3d.render import drawer, rasterizer
from sparse3d.types import PosedViews, View

COLUMNS = ("scene", "way", "PSNR", "SSIM", "most unseen", "unseen", "calls", "added", "seconds", "Gaussians")


@dataclass(frozen=True)
class Outcome:
    """Of one run."""

    psnr: tuple[float, ...]  # of each test view
    ssim: float
    facts: dict[str, object]  # of the prior; empty without
    seconds: float
    gaussians: int


def run(
    way: str, training: PosedViews, test: Sequence[View], first: Initialization, known: Known, config: Config
) -> Outcome:
    """One scene. `way` is none, or a kind and a prior with a colon between."""
    began, regularizer = time.monotonic(), None
    if way != "none":
        kind, name = way.split(":")
        config = replace(config, regularize=replace(config.regularize, kind=kind))
        prior = prior_of(name)
        assert prior is not None
        planned = views_to_ask_for(known, prior, config)
        regularizer = regularizer_with(prior, known, planned, config, StageReporter("optimize"))
    fit = optimize(
        first.gaussians,
        training.views,
        config.optimize,
        rasterizer(config.renderer),
        generator=torch.Generator().manual_seed(config.seed),
        progress=StageReporter("optimize"),
        guessed=first.start.origin == int(Origin.GUESSED),
        regularizer=regularizer,
    )
    seconds = time.monotonic() - began
    draw = drawer(fit.gaussians, look_of(training.views, config.optimize), config.renderer)
    scores = list(evaluate_views(draw, tuple(test)).values())
    facts = {} if regularizer is None else regularizer.facts()
    psnr = tuple(score["psnr"] for score in scores)
    return Outcome(psnr, statistics.mean(score["ssim"] for score in scores), facts, seconds, len(fit.gaussians))


def unseen(known: Known, view: View) -> float:
    """Share of a view that the photos show nothing of."""
    size = (known.views[0].height, known.views[0].width)
    return float((known.seen_from(view.resized(*size).cameras).validity < 0.3).float().mean())


def cells(found: Sequence[Outcome], without: Sequence[Outcome], shares: Sequence[float]) -> list[str]:
    """Means over seeds, with the standard deviation of PSNR."""
    most = sorted(range(len(shares)), key=lambda i: -shares[i])[: max(1, len(shares) // 3)]
    psnr = [statistics.mean(outcome.psnr) for outcome in found]
    of_most = [statistics.mean(outcome.psnr[i] for i in most) for outcome in found]
    change = [a - statistics.mean(b.psnr[i] for i in most) for a, b in zip(of_most, without, strict=True)]
    spread = f" ± {statistics.stdev(psnr):.2f}" if len(psnr) > 1 else ""
    facts = found[0].facts
    return [
        f"{statistics.mean(psnr):.2f}{spread}",
        f"{statistics.mean(outcome.ssim for outcome in found):.3f}",
        f"{statistics.mean(of_most):.2f} ({statistics.mean(change):+.2f})",
        f"{100 * statistics.mean(shares[i] for i in most):.0f} %",
        str(facts.get("calls", "-")),
        str(facts.get("added", "-")),
        f"{statistics.mean(outcome.seconds for outcome in found):.0f}",
        f"{found[0].gaussians:,}",
    ]


def cost() -> None:
    """Time and memory of a step of each loss on 64 x 64 latents."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    from sparse3d.priors.lora import Lora

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        in_channels=9,
        block_out_channels=(64, 128, 256),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,
    ).eval()
    lora = Lora(unet, 128)
    score = _Plain(unet, lora, DDIMScheduler().alphas_cumprod, int(AutoencoderKL().config.latent_channels))
    z0, noise = torch.randn(1, 4, 64, 64), torch.randn(1, 4, 64, 64)
    generator = torch.Generator().manual_seed(0)

    def train(denoiser: Denoiser) -> None:
        vsd(denoiser, lora, z0, 0.5, noise)
        lora_loss(denoiser, lora, z0, 0.5, noise).backward()

    table = Table(f"{sum(p.numel() for p in unet.parameters()) / 1e6:.1f} M weights, 64x64 latents, CPU", ("loss", "calls", "seconds", "peak MB more"))
    for name, step in {
        "sds": lambda denoiser: sds(denoiser, z0, 0.5, noise),
        "sdi": lambda denoiser: sdi(denoiser, z0, 0.5, generator),
        "sample": lambda denoiser: sampled(denoiser, noise, 1.0, 10),
        "vsd": train,
    }.items():
        step(Denoiser(score, torch.tensor([0])))
        denoiser, before, began = Denoiser(score, torch.tensor([0])), resident_mb(), time.monotonic()
        step(denoiser)
        table.row(name, str(denoiser.calls), f"{time.monotonic() - began:.2f}", f"{resident_mb() - before:.0f}")


class _Plain:
    """The score of a UNet without its pipeline: no words, nothing known, no guidance."""

    def __init__(self, unet, lora, kept, channels) -> None:
        self.unet, self.added, self.kept = unet, lora, kept
        self.known = torch.zeros(1, channels + 1, 64, 64)

    def alpha_sigma(self, t):
        kept = self.kept[(t * (len(self.kept) - 1)).round().long()]
        return kept.sqrt(), (1 - kept).sqrt()

    def predict_x0(self, z_t, t, idx, *, guidance=None):
        context = torch.zeros(1, 77, 128)
        if self.added.active:
            context = self.added.with_camera(context, torch.eye(4)[None])
        level = (t * (len(self.kept) - 1)).round().long()
        out = self.unet(torch.cat([z_t, self.known], dim=1), level, encoder_hidden_states=context).sample
        alpha, sigma = (part[:, None, None, None] for part in self.alpha_sigma(t))
        return (z_t - sigma * out) / alpha


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", help=f"room, or names below {DATA}")
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--size", type=int, default=504, help="longer side, pixels")
    parser.add_argument("--ways", nargs="+", default=["none", "refresh:classical"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="A.B=C")
    options = parser.parse_args()
    if options.cost:
        cost()
        return
    base = load_config(options.preset, options.settings)
    table = Table(
        f"{options.views} views, given cameras, {options.size} px, {' '.join([options.preset, *options.settings])}",
        COLUMNS,
    )
    for name in options.scenes:
        if name == "room":
            training, test = room(options.views, options.size, base)
        else:
            scene = DATA / name
            loaded = with_given_cameras(scene, fold_of(scene, options.views), options.size, base)
            training, test = loaded.training, loaded.test
        first = initialize(training, base.init, StageReporter("init"), torch.Generator().manual_seed(base.seed))
        known = Known.of([found.view for found in first.maps], [found.depth for found in first.maps])
        shares = [unseen(known, view) for view in test]
        without: list[Outcome] = []
        for way in ("none", *(way for way in options.ways if way != "none")):
            found = [
                run(way, training, test, first, known, replace(base, seed=seed)) for seed in range(options.seeds)
            ]
            without = without or found
            table.row(name, way, *cells(found, without, shares))


if __name__ == "__main__":
    main()
