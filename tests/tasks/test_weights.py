"""Pretrained weights in folders are what stages depend on."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from fetalflex.params import Params
from tasks import fingerprints, staleness, versioning
from tasks.stage import stage_definition
from tasks.weights import NONE, weights_fingerprints
from tasks.workspace import load_params, software_text, write_preset

KEY = "fetalflex-test-key-" + "0" * 32


def _write(root: Path, preset: str = "tiny", **score: object) -> Params:
    write_preset(root, preset)
    yaml = YAML()
    values = yaml.load(root / "params.yaml")
    values["score"] |= score
    yaml.dump(values, root / "params.yaml")
    return load_params(root)


def _weights(root: Path, name: str, content: bytes = b"a") -> None:
    (root / name).mkdir(exist_ok=True)
    (root / name / "model.safetensors").write_bytes(content)


def test_parameters_without_a_folder_of_weights_depend_on_none(tmp_path: Path) -> None:
    params = _write(tmp_path, encoders=["texture", "hub:owner/vision@1f"], lpips="hub:timm/vgg16.tv_in1k@2a")
    assert weights_fingerprints(tmp_path, params) == {"train": NONE, "score": NONE}


def test_other_weights_in_a_folder_change_the_stage_that_reads_them_alone(tmp_path: Path) -> None:
    params = _write(tmp_path, encoders=["texture", "folder:vision"], lpips=f"folder:{tmp_path / 'vgg'}")
    seen = []
    for name, content in (("vision", b"a"), ("vision", b"b"), ("vgg", b"c"), ("vgg", b"d")):
        _weights(tmp_path, name, content)
        found = weights_fingerprints(tmp_path, params)
        assert found["train"] == NONE
        seen.append(found["score"])
    assert len(set(seen)) == 4
    assert weights_fingerprints(tmp_path, params)["score"] == seen[-1]


def test_a_pretrained_base_belongs_to_training(tmp_path: Path) -> None:
    params = _write(tmp_path, "sd")
    missing = weights_fingerprints(tmp_path, params)
    (tmp_path / "models").mkdir()
    _weights(tmp_path, "models/stable-diffusion")
    there = weights_fingerprints(tmp_path, params)
    assert there["train"] not in (NONE, missing["train"])
    assert there["score"] == missing["score"] == NONE


def test_replaced_weights_are_told_as_the_reason_to_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETALFLEX_PSEUDONYM_KEY", KEY)
    monkeypatch.setattr(staleness, "check_ready", lambda root: None)
    monkeypatch.setattr(staleness.incoming, "check_centers", lambda root, params: None)
    monkeypatch.setattr(staleness.incoming, "stale_manifest", lambda root, center, key: False)
    monkeypatch.setattr(versioning, "graph", lambda root: {"train": [], "score": ["train"], "gate": ["score"]})
    monkeypatch.setattr(versioning, "status", lambda root: {})
    (tmp_path / "dvc.yaml").write_text(software_text("dvc.yaml"))
    params = _write(tmp_path, encoders=["texture", "folder:vision"])
    _weights(tmp_path, "vision")
    key = staleness.key_fingerprint(staleness.workspace_key(tmp_path, params))
    fingerprints.refresh(tmp_path, ["train", "score", "gate"], key, weights_fingerprints(tmp_path, params))
    assert not any(staleness.find_stale(tmp_path).values())
    before = stage_definition(tmp_path, "score")["fingerprints"]
    _weights(tmp_path, "vision", b"b")
    found = staleness.find_stale(tmp_path)
    assert found == {"train": [], "score": ["its pretrained weights changed"], "gate": ["follows from score"]}
    fingerprints.refresh(tmp_path, ["train", "score", "gate"], key, weights_fingerprints(tmp_path, params))
    after = stage_definition(tmp_path, "score")["fingerprints"]
    assert {name for name in after if after[name] != before[name]} == {"weights"}, "half a stage's chunks are no use"
