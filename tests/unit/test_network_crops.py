"""Photos made to fit a network's input: covered, centred, with cameras that still see the same."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from support.synthetic import OFFSET, SLOPE, plane_texture, textured_plane

from sparse3d.errors import UserError
from sparse3d.geometry import pixel_rays
from sparse3d.init.networks.crops import cropped, normalized_K
from sparse3d.init.networks.prediction import Prediction
from sparse3d.types import Gaussians, View


def gradient(height: int, width: int) -> View:
    """Red is the pixel's x, green its y, both at pixel centres and divided by the size; an off-centre camera."""
    x, y = (torch.arange(width) + 0.5) / width, (torch.arange(height) + 0.5) / height
    image = torch.stack([x.expand(height, width), y[:, None].expand(height, width), torch.zeros(height, width)])
    K = torch.tensor([[90.0, 0, 0.4 * width], [0, 95.0, 0.7 * height], [0, 0, 1]])
    return View("a", image, K, torch.eye(4))


@pytest.mark.parametrize(("height", "width"), [(48, 80), (81, 47), (256, 257), (33, 200), (20, 20)])
@pytest.mark.parametrize(("tall", "wide"), [(32, 32), (64, 48)])
def test_cameras_follow_their_images(height, width, tall, wide):
    """The ray of a new pixel meets the old image at the place whose colour the new pixel has."""
    view = gradient(height, width)
    new = cropped(view, tall, wide)
    assert new.image.shape == (3, tall, wide)
    old = pixel_rays(new.K, tall, wide) @ view.K.T  # in pixels of the old image
    inner = (slice(4, -4), slice(4, -4))  # Lanczos rings where the ramp ends
    for channel, size in ((0, width), (1, height)):
        torch.testing.assert_close(new.image[channel][inner], old[..., channel][inner] / size, rtol=0, atol=0.006)
    assert old[..., 0].min() > -1e-3 and old[..., 0].max() < width and old[..., 1].max() < height, "nothing is padded"


def test_it_is_pillows_lanczos_on_bytes():
    pixels = torch.randint(0, 256, (60, 90, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    view = View("a", pixels.permute(2, 0, 1) / 255, torch.tensor([[50.0, 0, 45], [0, 50, 30], [0, 0, 1]]), torch.eye(4))
    want = Image.fromarray(pixels.numpy()).resize((48, 32), Image.Resampling.LANCZOS).crop((8, 0, 40, 32))
    got = cropped(view, 32, 32).image * 255
    assert got.permute(1, 2, 0).round().to(torch.uint8).numpy().tobytes() == want.tobytes()


def test_a_fitting_view_stays_as_it_is():
    view = gradient(64, 96)
    same = cropped(view, 64, 96)
    assert torch.equal(same.K, view.K)
    torch.testing.assert_close(same.image, view.image, rtol=0, atol=0.5 / 255 + 1e-6)
    torch.testing.assert_close(normalized_K(same)[0], torch.tensor([90 / 96, 0, 0.4]))
    torch.testing.assert_close(normalized_K(same)[1], torch.tensor([0, 95 / 64, 0.7]))


def test_masks_are_cut_with_their_images():
    view = gradient(64, 128)
    left = torch.zeros(64, 128, dtype=torch.bool)
    left[:, :64] = True
    mask = cropped(View("a", view.image, view.K, view.c2w, left), 32, 32).mask
    assert mask is not None and mask[:, :16].all() and not mask[:, 16:].any()


def test_a_plane_is_where_it_was():
    """Depth by the new camera, the plane's equation and its texture agree on the colour of the new pixels."""
    view = textured_plane(96, 128)[0].views[1]
    new = cropped(view, 64, 64)
    rays, centre = pixel_rays(new.K, 64, 64), new.c2w[:3, 3]
    depth = (OFFSET + SLOPE * centre[0] - centre[2]) / (rays[..., 2] - SLOPE * rays[..., 0])
    want = plane_texture(centre + rays * depth[..., None]).permute(2, 0, 1)
    assert (new.image - want)[:, 4:-4, 4:-4].abs().mean() < 0.01


@pytest.mark.parametrize(
    ("height", "width", "said"), [(100, 256, "96 x 256"), (256, 250, "256 x 256"), (16, 16, "32 x 32")]
)
def test_sizes_that_no_network_takes_are_refused(height, width, said):
    with pytest.raises(UserError, match=said):
        cropped(gradient(64, 64), height, width)


def test_predictions_check_their_shapes():
    view = gradient(32, 48)
    none = Gaussians(torch.zeros(0, 3), torch.zeros(0, 4), torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, 16, 3))
    Prediction(none, (view,), torch.ones(1, 32, 48), torch.ones(1, 32, 48))
    with pytest.raises(ValueError, match="1 views of size"):
        Prediction(none, (view,), torch.ones(1, 48, 32), torch.ones(1, 48, 32))
    with pytest.raises(ValueError, match="confidences has shape"):
        Prediction(none, (view,), torch.ones(1, 32, 48), torch.ones(2, 32, 48))
