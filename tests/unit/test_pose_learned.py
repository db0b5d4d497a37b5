"""Learned features with their published weights: where matches lie, on pairs of pictures whose true matches a formula gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from sparse3d.io.photos import load_photos
from sparse3d.pose.correspondences import Correspondences
from sparse3d.pose.learned import KorniaMatcher
from sparse3d.pose.matching import is_there
from sparse3d.pose.pictures import picture_of, turned_back
from sparse3d.progress import StageReporter
from sparse3d.types import Photo

NAMES = ("aliked", "disk", "xfeat")
FEATURES = 512
REPORT = StageReporter("pose")


@pytest.fixture(scope="module")
def network() -> Callable[[str], KorniaMatcher]:
    """Each matcher once."""
    made: dict[str, KorniaMatcher] = {}

    def get(name: str) -> KorniaMatcher:
        if not is_there(name):
            pytest.skip(f"the weights of {name} are not on this machine: sparse3d models fetch matchers")
        if name not in made:
            made[name] = KorniaMatcher(name, FEATURES)
        return made[name]

    return get


@pytest.fixture(scope="module")
def room(repository: Path) -> Photo:
    """A bundled photo, small."""
    return load_photos([repository / "examples" / "photos" / "room_01.jpg"], 480, warn=print)[0]


def photo(image: Tensor, like: Photo, mask: Tensor | None = None) -> Photo:
    """Another picture; its checksum is its own."""
    return replace(like, image=image, sha256=f"{image.double().sum().item()} {tuple(image.shape)}", mask=mask)


def matched(network: KorniaMatcher, *photos: Photo, turns: dict[int, int] | None = None) -> Correspondences:
    return network.match(photos, [(0, 1)], REPORT, turns or {})


@pytest.mark.parametrize("name", NAMES)
def test_matches_of_a_warped_picture_follow_its_homography(name, network, room):
    """OpenCV warps with whole-number pixel centres: H there is T(-0.5) H T(0.5) here."""
    height, width = room.image.shape[1:]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    moved = corners + np.array([[20, 14], [-26, 6], [-12, -24], [16, -8]], dtype=np.float32)
    exact = cv2.getPerspectiveTransform(corners, moved)
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    warped = cv2.warpPerspective(
        room.image.permute(1, 2, 0).numpy(), np.linalg.inv(half) @ exact @ half, (width, height), flags=cv2.INTER_LINEAR
    )
    other = photo(torch.from_numpy(warped).permute(2, 0, 1).contiguous(), room)
    first, second = matched(network(name), room, other).points((0, 1))
    want = np.concatenate([first, np.ones((len(first), 1))], axis=1) @ exact.T
    error = np.linalg.norm(want[:, :2] / want[:, 2:] - second, axis=1)
    assert len(first) > 60 and (error < 2.0).mean() > 0.8


@pytest.mark.parametrize("name", NAMES)
def test_matches_of_a_moved_picture_are_not_biased(name, network, room):
    """Two cuttings of one photo, 32 and 16 pixels apart."""
    photos = (photo(room.image[:, :288, :384].clone(), room), photo(room.image[:, 16:304, 32:416].clone(), room))
    first, second = matched(network(name), *photos).points((0, 1))
    error = first - second - np.array([32.0, 16.0])
    near = np.linalg.norm(error, axis=1) < 3.0
    assert near.sum() > 60 and np.abs(error[near].mean(axis=0)).max() < 0.1


@pytest.mark.parametrize(("name", "looked_at"), [("disk", (360, 480)), ("xfeat", (352, 480))])
def test_pixel_centres_are_at_a_half(name, looked_at, network, room):
    """DISK and XFeat find whole pixels, XFeat those of the picture resized to multiples of 32; their centres come back.

    Where a network puts a keypoint beside a corner, up to 3 pixels by its own taste, shows no convention: halved or upside down,
    pictures have keypoints elsewhere.
    """
    found = matched(network(name), room, room).keypoints[0] / np.array([480 / looked_at[1], 360 / looked_at[0]])
    assert room.image.shape[1:] == (360, 480) and len(found) > 100
    np.testing.assert_allclose(found % 1, 0.5, atol=1e-3)  # float32, up to 480


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("size", [(5, 8), (8, 5), (6, 6)])
def test_turned_positions_turn_back(turn, size):
    """A picture that says where each of its pixels is, turned by torch."""
    height, width = size
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    turned = torch.rot90(torch.stack([x, y]), turn, (1, 2))
    row, column = torch.meshgrid(torch.arange(turned.shape[1]), torch.arange(turned.shape[2]), indexing="ij")
    positions = torch.stack([column, row], dim=-1).reshape(-1, 2).double().numpy() + 0.5
    np.testing.assert_array_equal(turned_back(positions, turn, width, height), turned.flatten(1).T.numpy())


@pytest.mark.parametrize("turn", range(4))
def test_a_picture_knows_the_way_back_to_its_photo(turn, room):
    """Resized by half and turned: the corners are the photo's corners, places outside do not count."""
    picture = picture_of(photo(room.image[:, :320, :480], room), 240, turn)
    h, w = picture.pixels.shape[1:]
    assert (h, w) == ((160, 240) if turn % 2 == 0 else (240, 160))
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]])
    found, counts = picture.in_photo(corners)
    want = np.roll(np.array([[0, 0], [480, 0], [480, 320], [0, 320]]), -turn, axis=0)
    np.testing.assert_allclose(found, want)
    assert counts.all() and not picture.in_photo(np.array([[-0.1, 5], [5, h + 0.1]]))[1].any()


def test_a_photo_on_its_side_matches_when_it_is_looked_at_turned(network, room):
    """XFeat knows no rotation; `turns` of the photo give what the upright photo gives, in the photo as it lies."""
    height = room.image.shape[1]
    lying = photo(torch.rot90(room.image, 3, (1, 2)).contiguous(), room)
    first, second = matched(network("xfeat"), room, lying, turns={1: 1}).points((0, 1))
    upright = np.stack([second[:, 1], height - second[:, 0]], axis=1)  # a quarter clockwise, undone
    assert len(first) > 200 and np.linalg.norm(first - upright, axis=1).max() < 1e-3
    assert len(matched(network("xfeat"), room, lying).matches[0, 1]) < len(first) / 2


def test_a_mask_removes_keypoints(network, room):
    mask = torch.zeros(room.image.shape[1:], dtype=torch.bool)
    mask[:, : mask.shape[1] // 2] = True
    half = replace(room, mask=mask, sha256="masked")
    found = matched(network("xfeat"), room, half)
    assert 0 < len(found.keypoints[1]) < len(found.keypoints[0])
    assert (found.keypoints[1][:, 0] < mask.shape[1] // 2).all()


def test_features_of_a_photo_are_found_once(network, room, monkeypatch):
    """Once for each turn, in whichever set of photos it comes."""
    matcher = KorniaMatcher("xfeat", 64, max_size=160) if is_there("xfeat") else network("xfeat")
    found: list[int] = []
    find = matcher._find
    monkeypatch.setattr(matcher, "_find", lambda photo, turn: found.append(turn) or find(photo, turn))
    other = photo(room.image.flip(2), room)
    first = matcher.match([room, other], [(0, 1)], REPORT)
    again = matcher.match([other, room], [(0, 1)], REPORT)
    assert found == [0, 0]
    np.testing.assert_array_equal(first.keypoints[0], again.keypoints[1])
    matcher.match([room, other], [(0, 1)], REPORT, {1: 2})
    matcher.match([room, other], [(0, 1)], REPORT, {1: 6})
    assert found == [0, 0, 2]


def test_photos_in_no_pair_have_no_keypoints(network, room):
    found = network("xfeat").match([room, room, room], [(0, 2)], REPORT)
    assert [len(positions) > 0 for positions in found.keypoints] == [True, False, True]
