from __future__ import annotations

import dataclasses

import pytest

from sparse3d.config import _RANGES, Config, load_config, preset_names
from sparse3d.errors import UserError


def test_presets_load_and_hold_only_what_differs():
    assert {"fast", "balanced", "quality"} <= set(preset_names())
    default = Config()
    budget = dataclasses.replace(default.optimize, time_limit_s=1800.0)
    assert load_config("balanced") == dataclasses.replace(default, optimize=budget)
    assert load_config("fast").photos.max_size == 504
    assert load_config("quality").optimize.steps > Config().optimize.steps
    assert [load_config(name).optimize.time_limit_s for name in ("fast", "quality")] == [300, 7200]


@pytest.mark.parametrize("preset", preset_names())
def test_presets_reach_their_sh_degree(preset):
    settings = load_config(preset).optimize
    assert settings.steps > settings.sh_degree * settings.sh_interval


def test_on_and_off_are_words():
    """YAML reads them as true and false."""
    words = ("on", "off", "auto", "'on'", "true")
    read = [load_config("fast", [f"optimize.refine_cameras={word}"]).optimize.refine_cameras for word in words]
    assert read == ["on", "off", "auto", "on", "on"]


def test_assignment_beats_preset_beats_default():
    assert load_config("fast").optimize.steps == 800
    config = load_config("fast", ["optimize.steps=42", "seed=7", "init.near=0.5", "optimize.means_lr=1e-3"])
    assert (config.optimize.steps, config.seed, config.init.near, config.optimize.means_lr) == (42, 7, 0.5, 1e-3)
    assert config.photos.max_size == 504


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("optimize.step=5", ["optimize has no setting 'step'", "did you mean 'steps'?"]),
        ("optimise.steps=5", ["no setting 'optimise'", "did you mean 'optimize'?"]),
        ("optimize.steps=many", ["optimize.steps is 'many'", "a whole number"]),
        ("optimize.steps=1.5", ["optimize.steps is 1.5", "a whole number"]),
        ("optimize.steps=true", ["optimize.steps is True", "a whole number"]),
        ("init.method=magic", ["init.method is 'magic'", "auto, sfm, planesweep"]),
        ("optimize=5", ["optimize needed a mapping"]),
        ("optimize.steps", ["needed section.name=value"]),
        ("optimize.steps=[", ["not valid YAML"]),
    ],
)
def test_wrong_assignments_say_what_to_do(assignment, words):
    with pytest.raises(UserError) as error:
        load_config("fast", [assignment])
    for word in words:
        assert word in str(error.value)


def test_wrong_preset_file_is_named(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("optimize:\n  step: 5\n")
    with pytest.raises(UserError, match=r"mine\.yaml: optimize has no setting 'step'; did you mean 'steps'"):
        load_config(str(file))
    with pytest.raises(UserError, match="did you mean 'balanced'"):
        load_config("balancd")
    with pytest.raises(UserError, match="no preset file"):
        load_config(str(tmp_path / "other.yaml"))


def numbers(config: object, path: str = "") -> dict[str, object]:
    """Dotted name and default of every setting that is a number, or may be one."""
    found: dict[str, object] = {}
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value, name = getattr(config, field.name), f"{path}{field.name}"
        if dataclasses.is_dataclass(value):
            found |= numbers(value, f"{name}.")
        elif not isinstance(value, (str, bool)):
            found[name] = value
    return found


def test_every_number_has_a_range_that_holds_its_default():
    found = numbers(Config())
    assert set(found) == set(_RANGES)
    assert [name for name, value in found.items() if value is not None and value not in _RANGES[name]] == []


@pytest.mark.parametrize(
    ("key", "wrong", "fine", "needed"),
    [
        ("photos.max_size", ["63", "0", "-5"], ["64"], "at least 64"),
        ("photos.frames", ["1"], ["2"], "at least 2"),
        ("pose.max_features", ["0"], ["64"], "at least 64"),
        ("init.planes", ["2"], ["3"], "at least 3"),
        ("init.window", ["1", "8", "13"], ["3", "11"], "an odd number, at least 3 and at most 11"),
        ("init.stride", ["0"], ["1"], "at least 1"),
        ("init.min_confidence", ["-0.1", "1.1"], ["0", "1"], "at least 0 and at most 1"),
        ("init.consistency", ["0"], ["1e-6"], "more than 0"),
        ("optimize.steps", ["0"], ["1"], "at least 1"),
        ("optimize.sh_degree", ["-1", "4"], ["0", "3"], "at least 0 and at most 3"),
        ("optimize.dropout", ["1", "-0.1"], ["0", "0.99"], "at least 0 and less than 1"),
        ("optimize.opacity_decay", ["0", "1.001"], ["1", "0.5"], "more than 0 and at most 1"),
        ("optimize.means_lr", ["0", ".nan", ".inf"], ["1e-9"], "more than 0"),
        ("optimize.scales_lr", ["-1e-3"], ["0"], "at least 0"),
        ("optimize.time_limit_s", ["0", "-1"], ["0.5", "null"], "more than 0"),
        ("seed", ["-1", "2147483648"], ["0", "2147483647"], "at least 0 and at most 2,147,483,647"),
    ],
)
def test_ranges(key, wrong, fine, needed):
    for value in wrong:
        with pytest.raises(UserError) as error:
            load_config("fast", [f"{key}={value}"])
        assert str(error.value).startswith(f"--set: {key} is ") and str(error.value).endswith(f", needed {needed}")
    for value in fine:
        load_config("fast", [f"{key}={value}"])


def test_a_preset_file_out_of_range_is_named(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("init:\n  window: 6\n")
    with pytest.raises(UserError, match=r"mine\.yaml: init\.window is 6, needed an odd number"):
        load_config(str(file))


def test_nearest_plane_is_before_the_farthest():
    with pytest.raises(UserError, match=r"init\.near is 5 and init\.far is 2, needed init\.near < init\.far"):
        load_config("fast", ["init.near=5", "init.far=2"])
