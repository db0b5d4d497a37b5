"""Known cameras: matched by name, fitted to the photos, undistorted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sparse3d.config import PoseConfig
from sparse3d.errors import UserError
from sparse3d.geometry import invert_rigid, pixel_rays, project, rotation_from_quat
from sparse3d.io._pycolmap import pycolmap
from sparse3d.io.colmap import write_model
from sparse3d.io.images import write_image
from sparse3d.io.nerfstudio import write_transforms
from sparse3d.io.photos import find_photos, load_photos
from sparse3d.io.scene import SceneFolder, file_hash
from sparse3d.io.views import load_views, save_views
from sparse3d.pose.estimate import estimate_poses
from sparse3d.pose.from_scene import load_from_scene
from sparse3d.pose.known import load_known
from sparse3d.pose.undistort import undistort, undistorted_K
from sparse3d.progress import Event, StageReporter
from sparse3d.types import Photo, Points, PosedViews, View

K = torch.tensor([[90.0, 0, 41], [0, 92, 29], [0, 0, 1]])
HEIGHT, WIDTH = 60, 80


def photo(name: str, height: int = HEIGHT, width: int = WIDTH, mask: Tensor | None = None) -> Photo:
    return Photo(name, torch.rand(3, height, width), torch.eye(3), "default", name, mask)


def posed(names: Sequence[str]) -> PosedViews:
    generator = torch.Generator().manual_seed(0)
    views = []
    for i, name in enumerate(names):
        c2w = torch.eye(4)
        c2w[:3, :3] = rotation_from_quat(torch.randn(4, generator=generator))
        c2w[0, 3] = i
        views.append(View(name, torch.zeros(3, HEIGHT, WIDTH), K, c2w))
    points = Points(torch.randn(3, 3), torch.rand(3, 3), torch.ones(3), (tuple(names), (names[0],), (names[-1],)))
    return PosedViews(tuple(views), points)


def no_warning(message: str) -> None:
    raise AssertionError(f"unexpected warning: {message}")


def brown(x: np.ndarray, y: np.ndarray, k1: float, k2: float, p1: float, p2: float) -> tuple[np.ndarray, np.ndarray]:
    """OpenCV's distortion as its manual has it, on the plane z = 1."""
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2 * r2
    return x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y


@pytest.mark.parametrize("place", ["", "sparse/0"])
def test_colmap_model(tmp_path: Path, place: str) -> None:
    want = posed(["a.jpg", "b.jpg", "c.jpg"])
    write_model(tmp_path / place, want)
    photos = [photo(name) for name in ("c.jpg", "a.jpg", "b.jpg")]
    got = load_known(tmp_path, photos, warn=no_warning)
    assert got.names == ["c.jpg", "a.jpg", "b.jpg"]  # the order of the photos
    by_name = {view.name: view for view in want.views}
    for view, taken in zip(got.views, photos, strict=True):
        torch.testing.assert_close(view.c2w, by_name[view.name].c2w, rtol=0, atol=1e-6)
        assert torch.equal(view.K, K) and view.image is taken.image and view.mask is None  # nothing to undistort
    assert [set(track) for track in got.points.tracks] == [{"a.jpg", "b.jpg", "c.jpg"}, {"a.jpg"}, {"c.jpg"}]


def test_intrinsics_follow_the_size_of_the_photo(tmp_path: Path) -> None:
    write_model(tmp_path, posed(["a.jpg", "b.jpg"]))
    got = load_known(tmp_path, [photo("a.jpg", 30, 40), photo("b.jpg", 120, 160)], warn=no_warning)
    torch.testing.assert_close(got.views[0].K, torch.tensor([[45.0, 0, 20.5], [0, 46, 14.5], [0, 0, 1]]))
    torch.testing.assert_close(got.views[1].K, torch.tensor([[180.0, 0, 82], [0, 184, 58], [0, 0, 1]]))


def test_another_shape_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path, posed(["a.jpg", "b.jpg"]))
    with pytest.raises(UserError, match=r"b\.jpg is 60 x 80, but .* has 80 x 60.*turned"):
        load_known(tmp_path, [photo("a.jpg"), photo("b.jpg", WIDTH, HEIGHT)], warn=no_warning)
    with pytest.raises(UserError, match="not cropped"):
        load_known(tmp_path, [photo("a.jpg"), photo("b.jpg", 60, 70)], warn=no_warning)
    load_known(tmp_path, [photo("a.jpg"), photo("b.jpg", 7, 10)], warn=no_warning)  # 7.5 rounded is the same shape


def test_names_match_whole_then_by_file_then_by_stem(tmp_path: Path) -> None:
    write_model(tmp_path, posed(["left/a.jpg", "right/a.jpg", "b.JPG", "sub/c.png"]))
    photos = [photo(name) for name in ("c.jpg", "right/a.jpg", "left/a.jpg", "b.png")]
    got = load_known(tmp_path, photos, warn=no_warning)
    order = [int(view.c2w[0, 3]) for view in got.views]
    assert got.names == ["c.jpg", "right/a.jpg", "left/a.jpg", "b.png"] and order == [3, 1, 0, 2]
    assert set(got.points.tracks[0]) == {"c.jpg", "right/a.jpg", "left/a.jpg", "b.png"}


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    write_model(tmp_path, posed(["a.jpg", "b.jpg", "gone.jpg"]))
    photos = [photo(name) for name in ("a.jpg", "b.jpg", "new.jpg")]
    warnings: list[str] = []
    got = load_known(tmp_path, photos, warn=warnings.append)
    assert got.names == ["a.jpg", "b.jpg"] and [len(track) for track in got.points.tracks] == [2, 1]
    assert len(warnings) == 2 and "gone.jpg" in warnings[0] and "new.jpg" in warnings[1] and "left out" in warnings[1]
    with pytest.raises(UserError, match=r"missing: gone\.jpg"):
        load_known(tmp_path, photos[:2], strict=True, warn=no_warning)
    with pytest.raises(UserError, match="cameras for 1 of 2 photos, needed 2"):
        load_known(tmp_path, photos[1:], warn=no_warning)
    with pytest.raises(
        UserError, match=r"cameras for 0 of 1 photos.*names a\.jpg, b\.jpg, gone\.jpg.*photos are x\.jpg"
    ):
        load_known(tmp_path, [photo("x.jpg")], warn=no_warning)
    write_model(tmp_path, posed(["a.jpg", "b.jpg"]))
    with pytest.raises(UserError, match=r"no camera for new\.jpg"):
        load_known(tmp_path, photos, strict=True, warn=no_warning)
    with pytest.raises(UserError, match="no cameras in"):
        load_known(tmp_path.parent, photos, warn=no_warning)
    with pytest.raises(UserError, match="there is no"):
        load_known(tmp_path / "absent", photos, warn=no_warning)
    with pytest.raises(UserError, match="not a camera file"):
        load_known(tmp_path / "cameras.bin", photos, warn=no_warning)


def test_transforms_file_and_folder(tmp_path: Path) -> None:
    want = posed(["a.jpg", "b.jpg"])
    drawn = View("drawn.png", torch.zeros(3, HEIGHT, WIDTH), K, torch.eye(4), generated=True)
    paths = [f"../views/{name}.png" for name in ("a", "b", "drawn")]
    cameras = tmp_path / "cameras"
    write_transforms(cameras / "transforms.json", [*want.views, drawn], paths)
    photos = [photo("a.jpg"), photo("b.jpg")]
    for path in (cameras, cameras / "transforms.json"):
        got = load_known(path, photos, warn=no_warning)
        assert len(got.points) == 0
        for view, expected in zip(got.views, want.views, strict=True):
            assert torch.equal(view.c2w, expected.c2w) and torch.equal(view.K, K)


def test_one_photo_is_enough_where_one_is_asked_for(tmp_path: Path) -> None:
    write_model(tmp_path, posed(["a.jpg"]))
    got = load_known(tmp_path, [photo("a.jpg")], minimum=1, warn=no_warning)
    assert got.names == ["a.jpg"] and torch.equal(got.views[0].K, K)
    with pytest.raises(UserError, match="cameras for 1 of 1 photos, needed 2"):
        load_known(tmp_path, [photo("a.jpg")], warn=no_warning)
    with pytest.raises(UserError, match="cameras for 0 of 1 photos, needed 1"):
        load_known(tmp_path, [photo("b.jpg")], minimum=1, warn=no_warning)


def scene_of(path: Path, views: PosedViews, photos: Sequence[Photo]) -> PosedViews:
    """A scene folder with this pose stage, made of these photos; the views as they are on disk."""
    scene = SceneFolder.create(path)
    save_views(scene.stage_path("01_pose"), views)
    sources = [{"name": Path(photo.name).name, "bytes": 1, "sha256": photo.sha256} for photo in photos]
    scene.update({"stages": {"01_pose": {"key": "key", "photos": sources}}})
    return load_views(scene.stage_path("01_pose"))


def test_scene_gives_its_own_views_of_the_same_photos(tmp_path: Path) -> None:
    made = posed(["a.jpg", "left/b.jpg", "right/b.jpg", "drawn.png"])
    made = PosedViews((*made.views[:3], replace(made.views[3], generated=True)), made.points)
    photos = [photo(name) for name in ("a.jpg", "left/b.jpg", "right/b.jpg", "unplaced.jpg")]
    want = scene_of(tmp_path, made, photos)
    got = load_from_scene(tmp_path, photos[:3], strict=True, warn=no_warning)
    assert got.names == ["a.jpg", "left/b.jpg", "right/b.jpg"]  # not the drawn one
    for view, expected in zip(got.views, want.views, strict=False):
        assert all(torch.equal(getattr(view, name), getattr(expected, name)) for name in ("c2w", "K", "image"))
    assert set(got.points.tracks[0]) == set(got.names) and torch.equal(got.points.xyz[0], made.points.xyz[0])
    warnings: list[str] = []
    new = [*photos, photo("new.jpg"), photo("drawn.png")]
    assert load_from_scene(tmp_path, new, strict=False, warn=warnings.append).names == got.names
    assert len(warnings) == 1 and "3 photos: drawn.png, new.jpg, unplaced.jpg; left out" in warnings[0]
    with pytest.raises(UserError, match=r"no camera for drawn\.png, new\.jpg, unplaced\.jpg"):
        load_from_scene(tmp_path, new, strict=True, warn=no_warning)


def test_scene_of_other_photos_is_refused(tmp_path: Path) -> None:
    names = ("a.jpg", "b.jpg", "c.jpg")
    photos = [photo(name) for name in names]
    scene_of(tmp_path, posed(names), photos)
    edited = replace(photos[1], sha256="of other bytes")
    with pytest.raises(UserError, match=r"other photos of the same name: b\.jpg\. Give"):
        load_from_scene(tmp_path, [photos[0], edited, photos[2]], strict=False, warn=no_warning)
    with pytest.raises(UserError, match=r"cameras for 1 of 2 photos, needed 2\. It has a\.jpg, b\.jpg, c\.jpg"):
        load_from_scene(tmp_path, [photos[0], photo("x.jpg")], strict=False, warn=no_warning)
    with pytest.raises(UserError, match="is a scene folder, whose cameras are those of its own undistorted views"):
        load_known(tmp_path, photos, warn=no_warning)  # its cameras are wrong for photos with lens distortion
    SceneFolder.create(tmp_path / "new").update({})
    with pytest.raises(UserError, match="poses are not finished"):
        load_from_scene(tmp_path / "new", photos, strict=False, warn=no_warning)


def test_scene_of_a_video_knows_its_frames(tmp_path: Path) -> None:
    """scene.json lists the video alone; the frames lie beside the views."""
    names = ("clip_000001.jpg", "clip_000009.jpg")
    want = scene_of(tmp_path, posed(names), [photo("clip.mp4")])
    frames = tmp_path / "stages" / "01_pose" / "frames"
    for name, view in zip(names, want.views, strict=True):
        write_image(frames / name, view.image)
    photos = [replace(photo(name), sha256=file_hash(frames / name)) for name in names]
    assert load_from_scene(tmp_path, photos, strict=True, warn=no_warning).names == list(names)
    write_image(frames / names[0], torch.ones(3, HEIGHT, WIDTH))
    with pytest.raises(UserError, match=r"other photos of the same name: clip_000001\.jpg"):
        load_from_scene(tmp_path, photos, strict=True, warn=no_warning)


def test_small_views_of_a_scene_are_told_of(tmp_path: Path) -> None:
    names = ("a.jpg", "b.jpg")
    photos = [photo(name, 2 * HEIGHT, 2 * WIDTH) for name in names]
    want = scene_of(tmp_path, posed(names), photos)

    def estimated(max_size: int) -> tuple[PosedViews, list[str]]:
        events: list[Event] = []
        progress = StageReporter("pose", events.append)
        got = estimate_poses(
            photos, PoseConfig(), known=tmp_path, max_size=max_size, strict=True, seed=0, progress=progress
        )
        assert got.report is None  # the cameras were given
        return got.views, [event.message for event in events if event.kind == "warning"]

    same, warnings = estimated(WIDTH)
    assert warnings == [] and all(torch.equal(a.c2w, b.c2w) for a, b in zip(same.views, want.views, strict=True))
    assert all(torch.equal(view.K, K) for view in same.views)
    smaller, warnings = estimated(WIDTH // 2)
    assert warnings == [] and [view.width for view in smaller.views] == [WIDTH // 2] * 2
    larger, warnings = estimated(1000)
    assert [view.width for view in larger.views] == [WIDTH] * 2
    assert len(warnings) == 1 and "are 80 pixels long and stay so, where photos.max_size asks for 160" in warnings[0]


OPENCV = ("OPENCV", (90.0, 92, 41, 29, -0.15, 0.03, 0.004, -0.006))


def smooth(x: Tensor, y: Tensor) -> Tensor:
    """A picture as a function on the plane z = 1."""
    return torch.stack([0.5 + 0.4 * torch.sin(6 * x + 1), 0.5 + 0.4 * torch.cos(5 * y), 0.5 + 0.3 * x * y])


@pytest.mark.parametrize("distortion", [(-0.15, 0.03, 0.004, -0.006), (0.2, 0.0, 0.0, 0.0), (-0.3, 0.1, 0.0, 0.0)])
def test_undistorted_picture_is_what_a_pinhole_sees(distortion: tuple[float, float, float, float]) -> None:
    """A scene drawn through OpenCV's formula, inverted here by fixed-point iteration, and drawn by a pinhole."""
    height, width, f = 150, 200, 190.0
    params = (f, f, 103.0, 73.0, *distortion)
    rays = pixel_rays(torch.tensor([[f, 0, 103.0], [0, f, 73], [0, 0, 1]], dtype=torch.float64), height, width).numpy()
    x, y = rays[..., 0].copy(), rays[..., 1].copy()
    for _ in range(200):
        dx, dy = brown(x, y, *distortion)
        x, y = x + rays[..., 0] - dx, y + rays[..., 1] - dy
    taken = smooth(torch.from_numpy(x), torch.from_numpy(y)).float()
    K_out = undistorted_K("OPENCV", params, height, width)
    picture, mask = undistort(taken, None, "OPENCV", params, K_out)
    assert mask is None  # nothing blank
    ideal = smooth(*pixel_rays(K_out.double(), height, width)[..., :2].unbind(-1)).float()
    torch.testing.assert_close(picture[:, 2:-2, 2:-2], ideal[:, 2:-2, 2:-2], rtol=0, atol=2e-3)
    torch.testing.assert_close(picture, ideal, rtol=0, atol=2e-2)  # at the border the bicubic window is cut
    # and filled to the border: a little less zoom would show where the photo ends
    smaller = K_out.clone()
    smaller[0, 0] *= 0.97
    smaller[1, 1] *= 0.97
    blank = undistort(taken, None, "OPENCV", params, smaller)[1]
    assert blank is not None and not blank.all()


def test_zoom_is_that_of_colmaps_undistorter() -> None:
    """COLMAP crops each side by itself and keeps the focal length; ours is the same on the side that binds."""
    model, params = OPENCV
    colmap = pycolmap()
    camera = colmap.Camera(model=model, width=WIDTH, height=HEIGHT, params=list(params))
    options = colmap.UndistortCameraOptions()
    options.blank_pixels = 0
    theirs = colmap.undistort_camera(options, camera)
    K_out = undistorted_K(model, params, HEIGHT, WIDTH)
    zooms = [K_out[0, 0].item() / params[0], K_out[1, 1].item() / params[1]]
    assert zooms[0] == pytest.approx(zooms[1])
    assert zooms[0] == pytest.approx(max(WIDTH / theirs.width, HEIGHT / theirs.height), rel=0.03)  # whole pixels


def test_no_distortion_changes_nothing() -> None:
    image, mask = torch.rand(3, 6, 8), torch.rand(6, 8) > 0.5
    for model, params in [
        ("PINHOLE", (9.0, 8, 4, 3)),
        ("OPENCV", (9.0, 8, 4, 3, 0, 0, 0, 0)),
        ("SIMPLE_RADIAL", (9.0, 4, 3, 0)),
    ]:
        K_out = undistorted_K(model, params, 6, 8)
        got = undistort(image, mask, model, params, K_out)
        assert got[0] is image and got[1] is mask
        assert K_out[0].tolist() == [9, 0, 4]


def test_fisheye_and_mask() -> None:
    """An equidistant fisheye without further distortion: r = f theta; a mask comes along."""
    size, f = 101, 60.0
    params = (f, f, size / 2, size / 2, 0, 0, 0, 0)
    K_out = undistorted_K("OPENCV_FISHEYE", params, size, size)
    # the middle of a side is at the angle (size / 2) / f, where the picture has to end
    assert K_out[0, 0].item() == pytest.approx(size / 2 / np.tan(size / 2 / f), rel=1e-3)
    mask = torch.ones(size, size, dtype=torch.bool)
    mask[:, : size // 2] = False
    picture, got = undistort(torch.ones(3, size, size), mask, "OPENCV_FISHEYE", params, K_out)
    assert got is not None and torch.allclose(picture, torch.ones(()))
    assert not got[:, : size // 2].any() and got[:, size // 2 + 1 :].all()
    wide = (20.0, 20.0, size / 2, size / 2, 0, 0, 0, 0)  # 290 degrees: nothing like it fits a plane
    picture, got = undistort(
        torch.ones(3, size, size), None, "OPENCV_FISHEYE", wide, undistorted_K("OPENCV_FISHEYE", wide, size, size)
    )
    assert torch.isfinite(picture).all()


def test_distorted_model_gives_undistorted_views(tmp_path: Path) -> None:
    """A point projected through the lens into the photo is found where the view's pinhole projects it."""
    meta = {"fl_x": 90, "fl_y": 92, "cx": 41, "cy": 29, "w": WIDTH, "h": HEIGHT, "k1": -0.15, "k2": 0.03}
    matrix = [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]]  # OpenCV axes are the world's
    frames = [{"file_path": name, "transform_matrix": matrix} for name in ("a.png", "b.png")]
    (tmp_path / "transforms.json").write_text(json.dumps({**meta, "frames": frames}))
    scale = 4
    x, y = brown(np.array(0.3), np.array(-0.2), -0.15, 0.03, 0, 0)
    u, v = scale * (90 * x + 41), scale * (92 * y + 29)
    rows, columns = torch.meshgrid(torch.arange(HEIGHT * scale) + 0.5, torch.arange(WIDTH * scale) + 0.5, indexing="ij")
    spot = torch.exp(-((columns - u) ** 2 + (rows - v) ** 2) / 32)
    photos = [Photo(name, spot.expand(3, -1, -1), torch.eye(3), "default", name) for name in ("a.png", "b.png")]
    view = load_known(tmp_path, photos, warn=no_warning).views[0]
    weights = view.image[0]
    found = torch.stack([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()
    pixel, _ = project(torch.tensor([[0.3, -0.2, 1.0]]) * 7, invert_rigid(view.c2w), view.K)
    torch.testing.assert_close(found, pixel[0], rtol=0, atol=0.05)


def test_real_cameras(real_data: Path) -> None:
    """The fern at 252 x 189: points of its model fall where the photos show their colour."""
    fern, fox = real_data / "fern", real_data / "fox"
    if not (fern.is_dir() and fox.is_dir()):
        pytest.skip(f"no fern and fox in {real_data}")
    warnings: list[str] = []
    photos = load_photos(find_photos([fern / "images"])[:6:2], 252, warn=no_warning)
    got = load_known(fern, photos, warn=warnings.append)
    assert got.names == [photo.name for photo in photos] and len(warnings) == 1 and "17 photos" in warnings[0]
    assert got.views[0].K[0, 0].item() == pytest.approx(837 / 4, rel=2e-3)
    for view in got.views:
        seen = [i for i, track in enumerate(got.points.tracks) if view.name in track]
        pixels, depth = project(got.points.xyz[seen], invert_rigid(view.c2w), view.K)
        assert (depth > 0).all()
        x, y = pixels.long().unbind(1)
        inside = (x >= 0) & (y >= 0) & (x < view.width) & (y < view.height)
        colours = view.image[:, y[inside], x[inside]].T
        error = (colours - got.points.rgb[seen][inside]).abs().mean()
        mixed = (colours.roll(1, 0) - got.points.rgb[seen][inside]).abs().mean()
        assert inside.float().mean() > 0.99 and error < 0.5 * mixed
    photos = load_photos(find_photos([fox / "images"])[:3], 240, warn=no_warning)  # portrait, as the file has them
    view = load_known(fox / "source_transforms.json", photos, warn=warnings.append).views[0]
    assert view.image.shape[1] == 240 and view.K[1, 1].item() == pytest.approx(1374.49 / 8, rel=0.05)


def test_cameras_on_a_map_are_moved_to_the_origin(tmp_path: Path) -> None:
    """4 million metres from the origin, float32 steps are half a metre; the cameras stand 2 metres apart."""
    matrix = torch.eye(4, dtype=torch.float64)
    frames = []
    for i, name in enumerate(("a.jpg", "b.jpg")):
        matrix[:3, 3] = torch.tensor([500_000.125 + 2 * i, 4_000_000.25, 100.5])
        frames.append({"file_path": name, "transform_matrix": matrix.tolist()})
    keys = {"fl_x": 90, "w": WIDTH, "h": HEIGHT, "frames": frames}
    (tmp_path / "transforms.json").write_text(json.dumps(keys))
    photos, warnings = [photo("a.jpg"), photo("b.jpg")], list[str]()
    got = load_known(tmp_path, photos, warn=warnings.append)
    assert got.views[0].c2w[:3, 3].tolist() == [-1, 0, 0] and got.views[1].c2w[:3, 3].tolist() == [1, 0, 0]
    assert len(warnings) == 1 and "lie about (500001.125, 4000000.25, 100.5)" in warnings[0]
    with pytest.raises(UserError, match=r"too far from the origin.*recon --holdout"):
        load_known(tmp_path, photos, same_frame=True, warn=no_warning)


def test_labels_without_suffix_may_have_dots(tmp_path: Path) -> None:
    write_model(tmp_path, posed(["shot.001", "shot.002"]))
    got = load_known(tmp_path, [photo("shot.002.jpg"), photo("shot.001.jpg")], warn=no_warning)
    assert [int(view.c2w[0, 3]) for view in got.views] == [1, 0]


def test_sizes_that_the_file_leaves_out_are_those_of_the_photo_files(tmp_path: Path) -> None:
    """fl_x is in pixels of the files, of which the photos in memory are a half."""
    frames = [{"file_path": f"{name}.jpg", "transform_matrix": torch.eye(4).tolist()} for name in "ab"]
    (tmp_path / "transforms.json").write_text(json.dumps({"fl_x": 180, "cx": 80, "cy": 58, "frames": frames}))
    photos = [replace(photo(f"{name}.jpg"), original=(2 * HEIGHT, 2 * WIDTH)) for name in "ab"]
    view = load_known(tmp_path, photos, warn=no_warning).views[0]
    torch.testing.assert_close(view.K, torch.tensor([[90.0, 0, 40], [0, 90, 29], [0, 0, 1]]))


def test_metres_are_told_of(tmp_path: Path) -> None:
    poses = [[0, 0, 0, 1, x, 0, 0] for x in (0, 1)]
    K_columns = [90, 0, 0, 0, 92, 0, 41, 29, 1]
    (tmp_path / "metadata.json").write_text(json.dumps({"w": WIDTH, "h": HEIGHT, "K": K_columns, "poses": poses}))
    notes: list[str] = []
    got = load_known(tmp_path, [photo("0.jpg"), photo("1.jpg")], warn=no_warning, note=notes.append)
    assert torch.equal(got.views[0].K, K) and notes == ["the cameras are in metres, and so is the scene"]
    assert got.views[1].c2w.tolist() == [[1, 0, 0, 1], [0, -1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]]


def test_other_formats_are_reached_by_their_suffix(tmp_path: Path) -> None:
    for name, message in [
        ("cameras.xml", "is not XML"),
        ("cameras.csv", "has no column"),
        ("x.txt", "not a camera file"),
    ]:
        (tmp_path / name).write_text("nothing")
        with pytest.raises(UserError, match=rf"{name}.*{message}"):
            load_known(tmp_path / name, [photo("a.jpg")], warn=no_warning)
