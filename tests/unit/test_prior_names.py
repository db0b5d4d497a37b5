"""Which priors there are, which this machine can run, and what `auto` means."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sparse3d.config import DensifyConfig
from sparse3d.errors import UserError
from sparse3d.models import store
from sparse3d.models.registry import REGISTRY
from sparse3d.priors.names import NAMES, load_prior, resolved, why_not


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSE3D_CACHE", str(tmp_path))


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=24 * 2**30))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("classical", "seva", "zeronvs")])
def test_without_weights_both_ways_to_get_them_are_told(name, no_weights):
    with pytest.raises(UserError) as told:
        load_prior(DensifyConfig(prior=name), pytest.fail)
    text = str(told.value)
    assert "sparse3d models fetch" in text and "--weights" in text and "--prior classical works without" in text
    assert text.split("the weights ")[1].split(" ")[0] in REGISTRY


def test_a_machine_without_gpu_and_weights_can_run_classical_alone(no_weights):
    assert why_not("classical") == ""
    for name in NAMES:
        if name != "classical":
            how = "--weights FILE" if name == "zeronvs" else "sparse3d models fetch"  # no hub has it
            assert "a GPU with" in why_not(name) and how in why_not(name)
    assert "--accept-license" in why_not("seva")
    assert resolved(DensifyConfig()).prior == "none"
    assert resolved(DensifyConfig(), otherwise="classical").prior == "classical"
    assert resolved(DensifyConfig(prior="svd")).prior == "svd"


def test_auto_is_wan_vace_once_its_weights_are_here(no_weights, gpu, tmp_path):
    pytest.importorskip("diffusers")
    assert resolved(DensifyConfig()).prior == "none"
    assert resolved(DensifyConfig(weights="my/folder")).prior == "wan-vace"
    staged = tmp_path / "staged"
    staged.mkdir()
    (staged / "model_index.json").write_text("{}")
    store.install("wan-vace", staged, {"from": "here"})
    assert why_not("wan-vace") == "" and resolved(DensifyConfig()).prior == "wan-vace"


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown prior 'wan-vase'.*wan-vace"):
        load_prior(DensifyConfig(prior="wan-vase"), pytest.fail)
