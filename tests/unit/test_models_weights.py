"""Reading weight files: nothing runs from them, and what does not fit is named."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sparse3d.errors import UserError
from sparse3d.models import store
from sparse3d.models.weights import check_manifest, load_state


def state() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def test_both_formats_give_the_same_tensors(tmp_path):
    torch.save(state(), tmp_path / "net.pth")
    torch.save(state(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.save({"extractor": state()}, tmp_path / "nested.pth")
    save_file(state(), tmp_path / "net.safetensors")
    for found in (
        load_state(tmp_path / "net.pth"),
        load_state(tmp_path / "old.pt"),
        load_state(tmp_path / "nested.pth", inside="extractor"),
        load_state(tmp_path / "net.safetensors"),
    ):
        assert found.keys() == state().keys()
        assert all(torch.equal(found[name], value) for name, value in state().items())


def test_the_parts_of_a_folder_are_read_together(tmp_path):
    for part, (name, value) in enumerate(state().items()):
        save_file({name: value}, tmp_path / f"model-{part}.safetensors")
    assert load_state(tmp_path).keys() == state().keys()
    with pytest.raises(UserError, match="no .safetensors"):
        load_state(tmp_path / "..")


class Malice:
    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.file,)


@pytest.mark.parametrize("save", [torch.save, lambda value, file: file.write_bytes(pickle.dumps(value))])
def test_a_file_that_carries_code_is_refused_and_not_run(tmp_path, save):
    file, made = tmp_path / "net.pth", tmp_path / "made"
    save({"a.weight": Malice(str(made))}, file)
    with pytest.raises(UserError, match=r"net.pth cannot be read without running code"):
        load_state(file)
    assert not made.exists()


@pytest.mark.parametrize("name", ["net.pth", "old.pt", "net.safetensors"])
def test_a_cut_off_file_is_named(tmp_path, name):
    big = {"a.weight": torch.zeros(1000)}
    file = tmp_path / name
    if name.endswith("safetensors"):
        save_file(big, file)
    else:
        torch.save(big, file, _use_new_zipfile_serialization=name == "net.pth")
    whole = file.read_bytes()
    for length in (0, 5, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(UserError, match=f"{name} is cut off or no weight file"):
            load_state(file)


def test_what_is_no_mapping_of_tensors_is_named(tmp_path):
    torch.save({"extractor": state(), "epoch": 3}, tmp_path / "net.pth")
    with pytest.raises(UserError, match="it holds extractor, epoch"):
        load_state(tmp_path / "net.pth")
    with pytest.raises(UserError, match="no entry 'model'"):
        load_state(tmp_path / "net.pth", inside="model")
    with pytest.raises(UserError, match="does not exist"):
        load_state(tmp_path / "no.pth")


def test_check_manifest_names_the_first_five_of_each_kind():
    expected = {f"layer{i}.weight": (4, i + 1) for i in range(8)} | {"grid": (3,)}
    good = {name: torch.zeros(shape) for name, shape in expected.items()}
    check_manifest(good, expected, what="net")
    check_manifest({k: v for k, v in good.items() if k != "grid"}, expected, what="net", computed=["grid"])
    bad = {"layer7.weight": torch.zeros(8, 4), "more": torch.zeros(1), "grid": torch.zeros(3)}
    with pytest.raises(UserError) as told:
        check_manifest(bad, expected, what="net")
    message = str(told.value)
    assert "weights net" in message
    assert "missing: layer0.weight, layer1.weight, layer2.weight, layer3.weight, layer4.weight and 2 more" in message
    assert "not expected: more" in message and "layer7.weight (8, 4) instead of (4, 8)" in message


def test_check_manifest_of_a_module():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    check_manifest(net.state_dict(), net, what="net")
    with pytest.raises(UserError, match="missing: 0.weight, 0.bias, 1.weight, 1.bias, 1.running_mean and 2 more"):
        check_manifest({}, net, what="net")


def fetched(name: str):
    place = store.path(name)
    if place is None:
        pytest.skip(f"the weights {name} were not fetched: sparse3d models fetch {name}")
    return place


@pytest.mark.parametrize("name", ["aliked-n16", "disk", "xfeat"])
def test_published_extractors_fit_kornia(name):
    feature = pytest.importorskip("kornia.feature")
    found = load_state(fetched(name), inside="extractor" if name == "disk" else None)
    network = {
        "aliked-n16": lambda: feature.ALIKED("aliked-n16"),
        "disk": feature.DISK,
        "xfeat": lambda: feature.XFeat().net,
    }[name]()
    check_manifest(found, network, what=name, computed=["dkd.hw_grid"])


@pytest.mark.parametrize("name", ["aliked-lightglue", "disk-lightglue", "xfeat-lighterglue", "lpips-vgg"])
def test_published_files_are_what_the_registry_says(name):
    assert load_state(fetched(name)) and store.verify(name) == []
