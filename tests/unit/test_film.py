"""Films, read back by OpenCV and Pillow."""

from __future__ import annotations

import cv2
import pytest
import torch
from PIL import Image

from sparse3d.errors import UserError
from sparse3d.io.film import write_film
from sparse3d.metrics.image import psnr


def frames(height: int, width: int, count: int = 6) -> list[torch.Tensor]:
    """A bright square that wanders to the right over a smooth ground."""
    made = []
    for index in range(count):
        ground = torch.linspace(0.2, 0.6, width).expand(3, height, width).clone()
        ground[:, 10:20, 8 * index : 8 * index + 10] = torch.tensor([0.9, 0.7, 0.5])[:, None, None]
        made.append(ground)
    return made


@pytest.mark.parametrize("size", [(64, 96), (63, 95)])
def test_an_mp4_plays_as_it_was_written(tmp_path, size):
    pytest.importorskip("imageio_ffmpeg")
    shown = frames(*size)
    write_film(iter(shown), tmp_path / "film.mp4", 12.5)
    film = cv2.VideoCapture(str(tmp_path / "film.mp4"))
    assert film.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]
    for wanted in shown:
        there, array = film.read()
        assert there
        found = torch.from_numpy(array[..., ::-1].copy()).permute(2, 0, 1) / 255
        assert psnr(found[:, : size[0], : size[1]], wanted) > 30
    assert not film.read()[0]


def test_a_gif_has_all_frames_and_their_time(tmp_path):
    write_film(frames(40, 80), tmp_path / "film.gif", 10)
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 6 and film.size == (80, 40) and film.info["duration"] == 100


def test_wrong_films_are_told(tmp_path):
    with pytest.raises(UserError, match=r"\.mp4 or \.gif"):
        write_film(frames(8, 8, 1), tmp_path / "film.avi", 10)
    with pytest.raises(UserError, match="no frame"):
        write_film([], tmp_path / "film.gif", 10)
    assert not list(tmp_path.iterdir())
