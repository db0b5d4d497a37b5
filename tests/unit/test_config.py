from __future__ import annotations

import pytest

from sparse3d.config import Config, load_config, preset_names
from sparse3d.errors import UserError


def test_presets_load_and_hold_only_what_differs():
    assert {"fast", "balanced", "quality"} <= set(preset_names())
    assert load_config("balanced") == Config()
    assert load_config("fast").photos.max_size == 504
    assert load_config("quality").optimize.steps > Config().optimize.steps


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
