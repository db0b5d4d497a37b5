"""Image files: the one place that reads and writes them, with Pillow.

cv2 is kept out on purpose: with pycolmap in the process, its PNG writer aborts.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, PngImagePlugin
from torch import Tensor

from sparse3d.errors import UserError, require
from sparse3d.io._atomic import replacing
from sparse3d.shapes import check_shapes

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".heic", ".heif")

_DEPTH_SCALE = "sparse3d:depth_scale"
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
# what Pillow raises on broken files; UnidentifiedImageError is an OSError
_BROKEN = (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, struct.error, zlib.error)


class UnreadableImage(UserError):
    """A file that is not a whole, readable image."""


@dataclass(frozen=True)
class Exif:
    """What EXIF says about the lens; None where it says nothing."""

    focal_35mm: float | None = None  # FocalLengthIn35mmFilm, mm, equal by diagonal
    focal_mm: float | None = None  # FocalLength
    pixels_per_mm: float | None = None  # FocalPlaneXResolution, in pixels of the photo as taken
    longer_px: float | None = None  # longer side of the photo as taken (PixelXDimension, PixelYDimension)
    make: str = ""
    model: str = ""


@dataclass(frozen=True)
class DecodedImage:
    """An image file in memory, upright."""

    image: Tensor  # (3, H, W) float32, sRGB in [0, 1]
    mask: Tensor | None  # (H, W) bool, True where alpha > 127; None without an alpha channel
    exif: Exif


def read_image(path: Path) -> DecodedImage:
    """The image in a file, turned upright by its EXIF orientation, with its mask and EXIF.

    See `decode_image`.

    Raises:
        UnreadableImage: the file cannot be opened or decoded whole; names the file and the reason.
        UserError: a HEIC file without pillow-heif.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"{path}: cannot be read: {error.strerror or error}") from error
    return decode_image(data, str(path))


def decode_image(data: bytes, name: str) -> DecodedImage:
    """The image in the bytes of a file, turned upright by its EXIF orientation, with its mask and EXIF.

    Grey, palette and CMYK images become RGB; 16-bit grey is divided by 65535. Of 16-bit colour Pillow reads the
    upper 8 bits. An alpha channel (or a transparent palette entry) becomes the mask; the colours below it stay as
    they are. Colour profiles are not applied.

    Args:
        data: Bytes of a JPEG, PNG, TIFF, WebP or HEIC file (or another that Pillow reads).
        name: The file's name, for messages.

    Raises:
        UnreadableImage: not a whole image; says why.
        UserError: HEIC without pillow-heif.
    """
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        require("pillow_heif", extra="heic", purpose="reading HEIC photos").register_heif_opener()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # photos of 100 megapixels are photos
            stored = Image.open(io.BytesIO(data))
            stored.load()
        exif = _exif(stored)
        rgb, alpha = _float_rgb(ImageOps.exif_transpose(stored))
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"{name}: {error}; make it smaller first") from error
    except Image.UnidentifiedImageError as error:
        raise UnreadableImage(f"{name}: is not an image" + (", the file is empty" if not data else "")) from error
    except _BROKEN as error:
        raise UnreadableImage(f"{name}: cannot be decoded: {error}") from error
    mask = None if alpha is None else torch.from_numpy(alpha > 127)
    return DecodedImage(torch.from_numpy(rgb).permute(2, 0, 1).contiguous(), mask, exif)


def write_image(path: Path, image: Tensor, mask: Tensor | None = None) -> None:
    """Writes a picture as PNG or JPEG (quality 95, full colour resolution), whole or not at all.

    Args:
        path: Ends in .png, .jpg or .jpeg. Missing folders are made.
        image: (3, H, W) sRGB; values outside [0, 1] are clipped.
        mask: (H, W) bool, written as the alpha channel of a PNG.

    Raises:
        ValueError: wrong shape, a value that is not a number, or a mask for a JPEG.
        UserError: another suffix.
    """
    check_shapes(image=(image, "3 H W"), **({} if mask is None else {"mask": (mask, "H W")}))
    suffix = path.suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"{path.name}: images are written as .png, .jpg or .jpeg; give the file one of these suffixes")
    if not torch.isfinite(image).all():
        raise ValueError(f"{path.name}: the image holds values that are not finite")
    if mask is not None and suffix != ".png":
        raise ValueError(f"{path.name}: a mask needs a .png, JPEG has no alpha channel")
    picture = _picture(image, mask)
    with replacing(path) as temporary:
        if suffix == ".png":
            picture.save(temporary, format="PNG")
        else:
            picture.save(temporary, format="JPEG", quality=95, subsampling=0)


def write_mask(path: Path, mask: Tensor) -> None:
    """Writes a mask as a grey PNG, white where it is True; whole or not at all. (H, W) bool"""
    with replacing(path) as temporary:
        Image.fromarray(mask.cpu().numpy().astype(np.uint8) * 255).save(temporary, format="PNG")


def animation_bytes(images: Sequence[Tensor], frame_ms: int = 250) -> bytes:
    """Pictures (3, H, W) of one size, one after the other, as an animated WebP, which every browser plays."""
    buffer = io.BytesIO()
    first, *others = [_picture(image, None) for image in images]
    first.save(buffer, "WEBP", save_all=True, append_images=others, duration=frame_ms, loop=0, quality=75)
    return buffer.getvalue()


def jpeg_bytes(image: Tensor, quality: int = 85) -> bytes:
    """A picture as JPEG in memory, for pages that hold their own images. (3, H, W), clipped to [0, 1]"""
    buffer = io.BytesIO()
    _picture(image, None).save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def table_bytes(table: np.ndarray) -> bytes:
    """A table of bytes as a lossless WebP, also where its fourth column is 0. (H, W, 4) uint8"""
    buffer = io.BytesIO()
    Image.fromarray(table).save(buffer, "WEBP", lossless=True, exact=True, quality=50, method=3)
    return buffer.getvalue()


def read_table(data: bytes, name: str, most: int) -> np.ndarray:
    """The inverse of `table_bytes`. (H, W, 4) uint8

    Args:
        data: A WebP file.
        name: The file's name, for messages.
        most: Pixels that are expected at most; more are not decoded.

    Raises:
        UserError: no such picture, damaged, or larger.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as picture:
            if picture.width * picture.height > most:
                raise UserError(
                    f"{name}: has {picture.width} x {picture.height} pixels, expected at most {most}; not decoded"
                )
            return np.asarray(picture.convert("RGBA"))
    except (*_BROKEN, Image.DecompressionBombError) as error:
        raise UserError(f"{name}: cannot be decoded: {error}") from error


def write_depth(path: Path, depth: Tensor) -> None:
    """Writes a depth map as a 16-bit PNG whose text chunk holds the depth of one step; whole or not at all.

    A pixel is round(depth / scale), with scale = largest depth / 65535: the error is at most scale / 2 (for depths
    below that, up to scale, for they must not become 0).

    Args:
        path: Ends in .png.
        depth: (H, W) world units; 0, negative, infinite and nan mean unknown and are read back as 0.
    """
    check_shapes(depth=(depth, "H W"))
    values = depth.detach().double().cpu()
    known = torch.isfinite(values) & (values > 0)
    largest = values[known].max().item() if known.any() else 1.0
    scale = largest / 65535
    steps = torch.where(known, (values / scale).round().clamp(1, 65535), torch.zeros(()).double())
    text = PngImagePlugin.PngInfo()
    text.add_text(_DEPTH_SCALE, repr(scale))
    with replacing(path) as temporary:
        Image.fromarray(steps.numpy().astype(np.uint16)).save(temporary, format="PNG", pnginfo=text)


def read_depth(path: Path) -> Tensor:
    """A depth map of `write_depth`. (H, W) float32, world units, 0 = unknown.

    Raises:
        UnreadableImage: not a whole PNG, or one without the depth of a step.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            text = getattr(picture, "text", {}).get(_DEPTH_SCALE)
            steps = np.asarray(picture).astype(np.float64)
        scale = math.nan if text is None else float(text)
    except _BROKEN as error:
        raise UnreadableImage(f"{path}: the depth map cannot be read: {error}") from error
    if not (scale > 0 and steps.ndim == 2):
        raise UnreadableImage(
            f"{path}: is an image without the text chunk {_DEPTH_SCALE!r}, so the unit of its depths is unknown. "
            "Give a depth map that sparse3d wrote."
        )
    return torch.from_numpy((steps * scale).astype(np.float32))


def _picture(image: Tensor, mask: Tensor | None) -> Image.Image:
    pixels = (image.detach().float().clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).cpu()
    if mask is not None:
        pixels = torch.cat([pixels, mask.to(torch.uint8).cpu()[..., None] * 255], dim=-1)
    return Image.fromarray(pixels.contiguous().numpy())


def _float_rgb(picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """(H, W, 3) float32 in [0, 1] and (H, W) uint8 alpha or None."""
    if picture.mode.startswith("I") or picture.mode == "F":  # 16-bit grey, 32-bit integers, float
        grey = np.asarray(picture).astype(np.float32)
        if picture.mode != "F":
            grey /= 65535
        if not (np.isfinite(grey).all() and grey.min() >= 0 and grey.max() <= 1):
            raise ValueError(f"its grey values (mode {picture.mode}) leave the range of 16 bits, or [0, 1] for floats")
        return np.repeat(grey[..., None], 3, axis=2), None
    if picture.has_transparency_data:
        rgba = np.array(picture.convert("RGBA"))
        return rgba[..., :3].astype(np.float32) / 255, rgba[..., 3]
    return np.array(picture.convert("RGB")).astype(np.float32) / 255, None


def _exif(picture: Image.Image) -> Exif:
    tags = picture.getexif()
    lens = tags.get_ifd(ExifTags.IFD.Exif)
    mm_per_unit = {2: 25.4, 3: 10.0, 4: 1.0, 5: 1e-3}.get(lens.get(ExifTags.Base.FocalPlaneResolutionUnit, 2))
    resolution = _positive(lens.get(ExifTags.Base.FocalPlaneXResolution))
    sides = [_positive(lens.get(tag)) or 0.0 for tag in (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)]
    make, model = (str(tags.get(tag) or "").strip("\0 ") for tag in (ExifTags.Base.Make, ExifTags.Base.Model))
    return Exif(
        focal_35mm=_positive(lens.get(ExifTags.Base.FocalLengthIn35mmFilm)),
        focal_mm=_positive(lens.get(ExifTags.Base.FocalLength)),
        pixels_per_mm=resolution / mm_per_unit if resolution and mm_per_unit else None,
        longer_px=max(sides) or None,
        make=make,
        model=model,
    )


def _positive(value: object) -> float | None:
    """A tag as a number; None when it is missing, malformed or 0, EXIF's way to say unknown."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None
