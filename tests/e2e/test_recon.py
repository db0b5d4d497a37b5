"""Photos to scene by the real command, against the ground truth of the bundled set."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from support.commands import SMALL

from sparse3d.io._pycolmap import pycolmap
from sparse3d.io.images import read_image
from sparse3d.io.load import load_scene
from sparse3d.io.nerfstudio import read_transforms
from sparse3d.io.views import load_views
from sparse3d.metrics.pose import pose_errors


def test_every_photo_is_placed_where_it_was_taken(scene, repository):
    posed = load_scene(scene).posed
    truth = {
        frame.name: frame.c2w for frame in read_transforms(repository / "examples" / "ground_truth" / "transforms.json")
    }
    assert sorted(posed.names) == sorted(truth)
    errors = pose_errors(
        torch.stack([view.c2w for view in posed.views]).double(),
        torch.stack([truth[name] for name in posed.names]).double(),
    )
    # at 504 px COLMAP's keypoints are good to about 0.2 px, which is 0.03 degrees at this focal length; 10x room
    assert errors.rotation_deg.max() < 0.3 and errors.position.max() < 0.02


def test_the_photo_stored_on_its_side_comes_out_upright(scene):
    views = {view.name: view for view in load_scene(scene).posed.views}
    assert views["room_06.jpg"].width > views["room_06.jpg"].height
    assert len({(view.height, view.width) for view in views.values()}) == 1


def test_held_out_views_are_drawn_better_than_by_any_flat_picture(scene):
    manifest = json.loads((scene / "scene.json").read_text())
    assert manifest["held_out"] == ["room_01.jpg", "room_05.jpg"]
    scores = manifest["scores"]["views"]["room_05.jpg"]
    # the best single colour scores 20 log10(1 / standard deviation of the photo), about 12 dB here; 60 small steps reach 20
    view = next(view for view in load_scene(scene).posed.views if view.name == "room_05.jpg")
    flat = -10 * torch.log10(((view.image - view.image.mean(dim=(1, 2), keepdim=True)) ** 2).mean()).item()
    assert scores["psnr"] > flat + 6 and scores["ssim"] > 0.5
    assert (scene / "eval" / "room_05.png").is_file()


def test_estimated_cameras_are_refined_and_published(scene):
    """The stage keeps them, transforms.json and the COLMAP model have them, and held-out views are scored twice."""
    manifest = json.loads((scene / "scene.json").read_text())
    assert manifest["stages"]["04_optimize"]["cameras"].keys() == {
        "rotation_mean_deg", "rotation_max_deg", "focal_percent",
    }  # fmt: skip
    loaded = load_scene(scene)
    assert loaded.refined
    first = {view.name: view for view in load_views(scene / "stages" / "01_pose").views}
    published = {frame.name: frame for frame in read_transforms(scene / "cameras" / "transforms.json")}
    for view in loaded.posed.views:
        held = view.name in manifest["held_out"]
        assert torch.equal(view.c2w, first[view.name].c2w) == held
        torch.testing.assert_close(published[f"{view.name[:-4]}.png"].c2w.float(), view.c2w)
    assert len({float(view.K[0, 0]) for view in loaded.posed.views}) == 1  # also of held-out views: it is one camera
    for scores in (manifest["scores"]["mean"], *manifest["scores"]["views"].values()):
        assert {"psnr", "ssim", "psnr aligned", "ssim aligned"} <= scores.keys()
    assert "aligned to its photo" in (scene / "report.html").read_text()


def test_given_cameras_stay_as_they_are(known_scene):
    manifest = json.loads((known_scene / "scene.json").read_text())
    assert manifest["stages"]["04_optimize"]["cameras"] is None
    assert not (known_scene / "stages" / "04_optimize" / "cameras.json").exists()
    assert not load_scene(known_scene).refined


def test_the_scene_folder_opens_in_other_tools(scene):
    gaussforge = pytest.importorskip("gaussforge")
    data = (scene / "scene.ply").read_bytes()
    read = (
        gaussforge.GaussForge().read_ply(data)
        if hasattr(gaussforge.GaussForge(), "read_ply")
        else gaussforge.GaussForge().read(data, "ply")
    )
    assert read
    model = pycolmap().Reconstruction(str(scene / "cameras" / "sparse" / "0"))
    assert model.num_reg_images() == 8 and model.num_points3D() > 500
    assert model.compute_mean_reprojection_error() < 1.5
    frames = json.loads((scene / "cameras" / "transforms.json").read_text())["frames"]
    assert len(frames) == 8 and all((scene / "cameras" / frame["file_path"]).is_file() for frame in frames)


def test_the_report_holds_everything_it_shows(scene):
    page = (scene / "report.html").read_text()
    assert (
        page.count("data:image/jpeg;base64,") == 2 * 8 + 6 and "<svg" in page and "held out" in page
    )  # renders, depth maps
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert (scene / "preview.jpg").stat().st_size > 5000


def test_a_second_run_does_nothing_again(scene, photos, run):
    before = {path: path.stat().st_mtime_ns for path in (scene / "stages").rglob("*") if path.is_file()}
    result = run("recon", photos, "-o", scene, *SMALL, "--holdout", "4", "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["registered"] == 8 and answer["scores"]["psnr"] > 10
    assert {path: path.stat().st_mtime_ns for path in (scene / "stages").rglob("*") if path.is_file()} == before


def test_a_changed_setting_redoes_only_what_follows(scene, photos, run, tmp_path):
    copy = shutil.copytree(scene, tmp_path / "scene")
    result = run("recon", photos, "-o", copy, *SMALL, "--holdout", "4", "--set", "optimize.steps=5")
    assert result.exit_code == 0
    assert "views from an earlier run" in result.stderr and "first Gaussians from an earlier run" in result.stderr
    assert (copy / "scene.ply").read_bytes() != (scene / "scene.ply").read_bytes()


def test_scores_of_an_earlier_run_do_not_survive(scene, photos, run, tmp_path):
    """Without held-out views there is nothing measured, and no picture that says otherwise."""
    copy = shutil.copytree(scene, tmp_path / "scene")
    assert (copy / "eval").is_dir() and (copy / "depth").is_dir()
    result = run("recon", photos, "-o", copy, *SMALL, "--set", "optimize.steps=2", "--set", "init.method=sfm")
    assert result.exit_code == 0, result.output
    manifest = json.loads((copy / "scene.json").read_text())
    assert manifest["scores"] is None and not (copy / "eval").exists() and list((copy / "depth").iterdir()) == []
    assert "held-out" not in (copy / "report.html").read_text()


def test_a_scene_between_two_runs_is_not_shown(scene, photos, run, tmp_path):
    """Cameras of one run and Gaussians of another do not belong together."""
    copy = shutil.copytree(scene, tmp_path / "scene")
    result = run("recon", photos, "-o", copy, *SMALL, "--holdout", "4", "--set", "optimize.prune_opacity=1.0")
    assert result.exit_code == 2 and "prune_opacity" in result.output
    changed = run(
        "recon", photos, "-o", copy, *SMALL, "--set", "pose.max_features=1500", "--set", "optimize.prune_opacity=1.0"
    )
    assert changed.exit_code == 2
    refused = run("eval", copy)
    assert refused.exit_code == 2 and "is not finished" in refused.output


def test_a_video_gives_a_scene(photos, run, tmp_path):
    """The bundled photos as an 8-frame film, each shown for a quarter of a second."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    writer = ffmpeg.write_frames(str(tmp_path / "walk.mp4"), (504, 378), fps=24, quality=9, macro_block_size=2)
    writer.send(None)
    for path in sorted(photos.glob("*.jpg")):
        image = read_image(path).image
        small = torch.nn.functional.interpolate(image[None], (378, 504), mode="area")[0]
        for _ in range(6):
            writer.send((small.permute(1, 2, 0) * 255).round().byte().contiguous().numpy())
    writer.close()
    result = run("recon", tmp_path / "walk.mp4", "-o", tmp_path / "scene", "--frames", "8", *SMALL, "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["photos"] == 8 and answer["registered"] >= 7
