"""Image files: what is decoded equals what was drawn, for every kind of file that people have."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from sparse3d.errors import UserError
from sparse3d.io.images import UnreadableImage, read_depth, read_image, write_depth, write_image


def picture(height: int = 5, width: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_lossless_files_are_read_exactly(tmp_path: Path, suffix: str) -> None:
    pixels = picture()
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}", lossless=True)
    decoded = read_image(tmp_path / f"a{suffix}")
    assert decoded.image.dtype == torch.float32 and decoded.image.is_contiguous() and decoded.mask is None
    torch.testing.assert_close(decoded.image, as_tensor(pixels), rtol=0, atol=1e-7)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_orientation_is_applied_once(tmp_path: Path, orientation: int, suffix: str) -> None:
    """EXIF 2.32: the tag says where the stored row 0 and column 0 belong in the upright picture."""
    upright = picture()
    stored = {
        1: upright,
        2: upright[:, ::-1],  # row 0 at the top, column 0 at the right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.transpose(1, 0, 2),  # left, top
        6: np.rot90(upright, 1),  # row 0 is the right side: stored is the upright one turned left
        7: upright[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
        8: np.rot90(upright, -1),  # row 0 is the left side
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"a{suffix}", exif=exif, lossless=True)
    torch.testing.assert_close(read_image(tmp_path / f"a{suffix}").image, as_tensor(upright), rtol=0, atol=1e-7)


def test_every_mode_becomes_rgb(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    torch.testing.assert_close(read_image(tmp_path / "grey.png").image, as_tensor(np.stack([grey] * 3, -1)))

    deep = (np.arange(256, dtype=np.uint16) * 257 + 3).clip(max=65535).reshape(16, 16)
    deep[0, 0] = 1
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        want = torch.from_numpy(deep.astype(np.float32) / 65535).expand(3, 16, 16)
        torch.testing.assert_close(read_image(tmp_path / name).image, want, rtol=0, atol=1e-7)

    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 51, 255])
    palette.putdata([0, 1])
    palette.save(tmp_path / "palette.png")
    want = torch.tensor([[[1.0, 0.0]], [[0.0, 0.2]], [[0.0, 1.0]]])
    torch.testing.assert_close(read_image(tmp_path / "palette.png").image, want)

    # pure cyan, magenta, yellow inks and black, in areas larger than JPEG's blocks
    cmyk = np.zeros((16, 64, 4), np.uint8)
    for i in range(4):
        cmyk[:, 16 * i : 16 * i + 16, i] = 255
    for name in ("cmyk.jpg", "cmyk.tif"):
        Image.fromarray(cmyk, mode="CMYK").save(tmp_path / name)
        got = read_image(tmp_path / name).image[:, 8, 8::16].T
        want = torch.tensor([[0.0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 0, 0]])
        torch.testing.assert_close(got, want, rtol=0, atol=0.02)

    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "one.png")
    assert read_image(tmp_path / "one.png").image[0].tolist() == [[0.0, 1.0]]


def test_16_bit_colour_is_scaled_right(tmp_path: Path) -> None:
    """An RGB TIFF with 16 bits, written by hand: Pillow cannot write one, and reads the upper 8 bits."""
    values = np.array([[[0, 32768, 65535]]], dtype="<u2")
    entries = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 3, 134), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 140)]
    entries += [(277, 3, 1, 3), (278, 3, 1, 1), (279, 4, 1, 6)]
    directory = b"".join(
        np.array([t, k], "<u2").tobytes() + np.array([c, v], "<u4").tobytes() for t, k, c, v in entries
    )
    data = b"II*\0\x08\0\0\0" + np.array([len(entries)], "<u2").tobytes() + directory + b"\0\0\0\0"
    data = data.ljust(134, b"\0") + np.array([16, 16, 16], "<u2").tobytes() + values.tobytes()
    (tmp_path / "a.tif").write_bytes(data)
    got = read_image(tmp_path / "a.tif").image.flatten()
    torch.testing.assert_close(got, torch.tensor([0.0, 0.5, 1.0]), rtol=0, atol=1 / 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "palette"])
def test_alpha_becomes_the_mask_and_colours_stay(tmp_path: Path, mode: str) -> None:
    if mode == "palette":
        image = Image.new("P", (2, 1))
        image.putpalette([100, 100, 100, 40, 40, 40])
        image.putdata([0, 1])
        image.save(tmp_path / "a.png", transparency=1)
        colours, mask = [100, 40], [True, False]
    else:
        rgba = np.array([[[100, 100, 100, 127], [40, 40, 40, 128]]], np.uint8)
        Image.fromarray(rgba).convert(mode).save(tmp_path / "a.png")
        colours, mask = [100, 40], [False, True]
    decoded = read_image(tmp_path / "a.png")
    assert decoded.mask is not None and decoded.mask.dtype == torch.bool and decoded.mask.tolist() == [mask]
    torch.testing.assert_close(decoded.image[0, 0] * 255, torch.tensor(colours).float())


def test_heic_is_read_or_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :32, 0] = 200
    file = tmp_path / "phone.heic"
    heif.from_pillow(Image.fromarray(pixels)).save(file, quality=95)
    image = read_image(file).image
    assert image.shape == (3, 32, 64)
    assert abs(image[0, 16, 8] * 255 - 200) < 8 and image[0, 16, 56] < 0.04
    exif = Image.Exif()
    exif[0x0112] = 6  # a phone held upright
    heif.from_pillow(Image.fromarray(pixels)).save(tmp_path / "upright.heic", quality=95, exif=exif.tobytes())
    image = read_image(tmp_path / "upright.heic").image
    assert image.shape == (3, 64, 32) and image[0, 8, 16] > 0.7 and image[0, 56, 16] < 0.04  # left became top
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UserError, match=r"reading HEIC photos.*sparse3d\[heic\]"):
        read_image(file)


def test_broken_files_say_why(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    for content, reason in [(b"", "empty"), (b"hello, this is text", "not an image")]:
        file.write_bytes(content)
        with pytest.raises(UnreadableImage, match=rf"a\.jpg.*{reason}"):
            read_image(file)
    for suffix in (".jpg", ".png", ".webp", ".tif"):
        whole = tmp_path / f"whole{suffix}"
        Image.fromarray(picture(64, 64)).save(whole)
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        with pytest.raises(UnreadableImage, match="cut"):
            read_image(cut)
    with pytest.raises(UnreadableImage, match="No such file"):
        read_image(tmp_path / "absent.png")


def test_written_png_comes_back_to_8_bits_with_its_mask(tmp_path: Path) -> None:
    image = torch.rand(3, 9, 6, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    mask = torch.rand(9, 6, generator=torch.Generator().manual_seed(1)) > 0.5
    write_image(tmp_path / "new" / "a.png", image, mask)
    decoded = read_image(tmp_path / "new" / "a.png")
    torch.testing.assert_close(decoded.image, image.clamp(0, 1), rtol=0, atol=0.5 / 255 + 1e-6)
    assert decoded.mask is not None and torch.equal(decoded.mask, mask)
    write_image(tmp_path / "a.jpg", torch.full((3, 16, 16), 0.4))
    torch.testing.assert_close(read_image(tmp_path / "a.jpg").image, torch.full((3, 16, 16), 0.4), rtol=0, atol=0.01)


def test_writing_refuses_what_cannot_be_written_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = torch.zeros(3, 4, 4)
    with pytest.raises(UserError, match=r"\.png, \.jpg"):
        write_image(tmp_path / "a.bmp", image)
    with pytest.raises(ValueError, match="not finite"):
        write_image(tmp_path / "a.png", image * float("nan"))
    with pytest.raises(ValueError, match="alpha"):
        write_image(tmp_path / "a.jpg", image, torch.ones(4, 4, dtype=torch.bool))
    write_image(tmp_path / "a.png", image)
    before = (tmp_path / "a.png").read_bytes()

    def fail(self: Image.Image, file: Path, **options: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_image(tmp_path / "a.png", image + 1)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"] and (tmp_path / "a.png").read_bytes() == before


def test_depth_comes_back_to_half_a_step(tmp_path: Path) -> None:
    depth = torch.rand(11, 8, generator=torch.Generator().manual_seed(0)) * 37 + 0.5
    depth[0, :4] = torch.tensor([0.0, -1.0, float("nan"), float("inf")])
    depth[1, 0] = 1e-9  # known, though below one step
    write_depth(tmp_path / "d.png", depth)
    got = read_depth(tmp_path / "d.png")
    step = depth[torch.isfinite(depth)].max().item() / 65535
    assert got.dtype == torch.float32 and got[0, :4].tolist() == [0, 0, 0, 0]
    assert 0 < got[1, 0] < 2 * step
    torch.testing.assert_close(got[2:], depth[2:], rtol=1e-6, atol=step / 2)
    stored = Image.open(tmp_path / "d.png")
    assert isinstance(stored, PngImagePlugin.PngImageFile) and stored.mode.startswith("I")
    write_depth(tmp_path / "empty.png", torch.zeros(2, 3))
    assert torch.equal(read_depth(tmp_path / "empty.png"), torch.zeros(2, 3))


def test_depth_without_its_scale_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((2, 2), np.uint16)).save(tmp_path / "d.png")
    with pytest.raises(UserError, match="depth_scale"):
        read_depth(tmp_path / "d.png")
