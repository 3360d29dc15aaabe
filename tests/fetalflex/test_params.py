from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fetalflex import params
from fetalflex.errors import ParameterError

LEAST: dict[str, Any] = {"preset": "demo", "ingest": {"centers": {"center-a": "frames"}}}
TEXT = "preset: demo\ningest: {centers: {center-a: frames}}\n"


def parse(**sections: Any) -> params.Params:
    return params.parse(LEAST | sections, params.Params, "params.yaml")


def message(**sections: Any) -> str:
    with pytest.raises(ParameterError) as caught:
        parse(**sections)
    return str(caught.value)


def test_only_preset_and_centers_must_be_given() -> None:
    found = parse()
    assert found.ingest.centers == {"center-a": "frames"}
    assert found.train == params.Train()
    assert found.train.channels == (64, 96, 128)


def test_values_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        parse().train.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize("section", ["compute", "data", "masks", "prealign", "train", "sample", "score", "evaluate"])
def test_an_unknown_key_is_named_with_those_that_are_known(section: str) -> None:
    said = message(**{section: {"stepz": 3}})
    assert said.startswith(f"params.yaml: {section}.stepz: unknown key; expected one of ")
    assert next(iter(type(getattr(parse(), section)).model_fields)) in said


def test_an_unknown_key_is_named_at_any_depth() -> None:
    assert message(trian={}).startswith("params.yaml: trian: unknown key; expected one of preset, data, compute")
    rule = {"metric": "kid", "at_most": 1.0, "reason": "r", "unit": "mm"}
    expected = "params.yaml: gate.release.0.unit: unknown key; expected one of metric, at_least, at_most, reason"
    assert message(gate={"release": [rule]}).startswith(expected)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("score", "lpips", "vgg16"),
        ("score", "lpips", "hub:timm/vgg16.tv_in1k"),
        ("train", "steps", 1.5),
        ("train", "steps", True),
        ("train", "steps", "500"),
        ("train", "steps", 0),
        ("train", "steps", None),
        ("train", "learning_rate", 0),
        ("train", "drop_layout", 1.01),
        ("train", "precision", "fp16"),
        ("train", "channels", []),
        ("data", "image_size", 63),
        ("data", "seed", -1),
        ("sample", "anomalies", "cleft"),
        ("sample", "anomalies", [{"name": "ventriculomegaly", "severity": ["mild", 12.0]}]),
        ("sample", "anomalies", [{"name": "ventriculomegaly", "weight": -1}]),
        ("sample", "layouts", "invented"),
        ("sample", "statistics_cases", 2),
        ("compute", "runner", "ray"),
        ("ingest", "centers", {}),
        ("ingest", "centers", {"Center A": "frames"}),
        ("ingest", "centers", {"a": "anywhere"}),
    ],
)
def test_a_wrong_value_is_named_and_shown_on_one_line(section: str, key: str, value: Any) -> None:
    said = message(**{section: {key: value}})
    assert said.startswith(f"params.yaml: {section}.{key}")
    assert "; found " in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"data": {"test_fraction": 0.5, "judge_fraction": 0.4}}, "data: test_fraction + judge_fraction must leave"),
        ({"sample": {"fine_time": [0.7, 0.3]}}, "sample: fine_time must be two rising numbers"),
        ({"sample": {"coarse_steps": 12, "budget": 8}}, "sample: coarse_steps 12 must not exceed the budget 8"),
        ({"data": {"image_size": 32}, "train": {"patch": 4, "channels": [32] * 5}}, "data.image_size 32 / train.patch"),
        ({"gate": {"image": [{"metric": "a", "reason": "r"}]}}, "gate.image.0: a criterion has exactly one of"),
        (
            {"gate": {"image": [{"metric": "a", "reason": "r", "at_least": 0.0, "at_most": 1.0}]}},
            "gate.image.0: a criterion has exactly one of at_least and at_most",
        ),
    ],
)
def test_an_impossible_combination_is_named(sections: dict[str, Any], said: str) -> None:
    assert said in message(**sections)
    assert "\n" not in message(**sections)


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_groups_leave_patients_for_training(test: float, judge: float) -> None:
    if test + judge > 0.8:
        assert "must leave" in message(data={"test_fraction": test, "judge_fraction": judge})
    else:
        assert parse(data={"test_fraction": test, "judge_fraction": judge}).data.test_fraction == test


def test_what_is_missing_is_named_and_the_rest_is_counted() -> None:
    with pytest.raises(ParameterError, match=r"^p: preset: Field required \(and 2 more\)$"):
        params.parse({"train": {"steps": -1}}, params.Params, "p")


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.dates()
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([*params.Params.model_fields, "other"]), anything)
def test_nonsense_is_refused_by_our_own_error_on_one_line(section: str, value: Any) -> None:
    said = "params.yaml: "
    try:
        parse(**{section: value})
    except ParameterError as error:
        said = str(error)
    assert said.splitlines() == [said]
    assert said.startswith("params.yaml: ")


def test_yaml_is_read_as_dvc_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT + "train: {learning_rate: 2e-3, channels: [32, 64]}\n", encoding="utf-8")
    found = params.read_params(path)
    assert (found.train.learning_rate, found.train.channels) == (2e-3, (32, 64))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "params.yaml: the file: .*found None"),
        (b"words", "params.yaml: the file: .*found 'words'"),
        (b"a: [", r"params\.yaml: is no YAML"),
        (b"\xff\xfe\x00", r"params\.yaml: is no YAML"),
        (TEXT.encode() + b"train: {steps: 1}\ntrain: {steps: 2}", 'is no YAML: .*duplicate key "train"'),
        (TEXT.encode() + b"train: {time_mean: .nan}", "params.yaml: train.time_mean: expected .*finite.*; found nan"),
        (TEXT.encode() + b"train: {steps: 2026-11-23}", r"params.yaml: train.steps: expected .*; found datetime"),
        (TEXT.encode() + b"train: {channels: [32, 2026-11-23]}", r"params.yaml: train.channels.1: expected"),
    ],
)
def test_a_file_that_is_not_ours_gives_one_line(tmp_path: Path, text: bytes, said: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(text)
    with pytest.raises(ParameterError, match=said) as caught:
        params.read_params(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"params\.yaml: cannot be read \(No such file"):
        params.read_params(tmp_path / "params.yaml")


def test_a_center_has_a_role_and_perhaps_a_phantom(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("title: A\nlicence: CC BY 4.0\nplanes: {thal: transthalamic}\n")
    assert params.read_center(path) == params.Center(
        title="A", licence="CC BY 4.0", planes={"thal": "transthalamic"}, role="normal", phantom=None
    )
    path.write_text("title: A\nlicence: none\nphantom: {device: curved-c, patients: 3}\n")
    with pytest.raises(ParameterError, match=r"a\.yaml: phantom\.device: .*curved-a.*; found 'curved-c'"):
        params.read_center(path)
    path.write_text("title: A\nlicence: none\nphantom: {device: curved-a, patients: 3, sed: 1}\n")
    with pytest.raises(ParameterError, match=r"phantom\.sed: unknown key; expected one of device, patients, seed"):
        params.read_center(path)


PRESETS = sorted(p.stem for p in (Path(params.__file__).parent / "presets").glob("*.yaml"))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_and_its_embedded_centers_too(tmp_path: Path, name: str) -> None:
    (tmp_path / "params.yaml").write_text(params.preset_text(name))
    found = params.read_params(tmp_path / "params.yaml")
    assert found.preset == name
    folder = Path(params.__file__).parent / "presets" / "centers"
    for center in (p.stem for p in folder.glob("*.yaml")):
        (tmp_path / f"{center}.yaml").write_text(params.embedded_center_text(center))
        assert params.read_center(tmp_path / f"{center}.yaml").phantom is not None


def test_an_unknown_preset_or_embedded_center_is_named() -> None:
    with pytest.raises(ParameterError, match="preset 'huge' is unknown; expected one of"):
        params.preset_text("huge")
    with pytest.raises(ParameterError, match=r"ingest\.centers\.nowhere: centers/nowhere\.yaml is missing"):
        params.embedded_center_text("nowhere")


def test_the_address_of_a_cluster_is_of_use_to_dask_alone() -> None:
    found = parse(compute={"runner": "dask", "dask_address": "tcp://scheduler:8786"})
    assert found.compute.dask_address == "tcp://scheduler:8786"
    assert "dask_address is read by the runner dask alone" in message(compute={"dask_address": "tcp://scheduler:8786"})


@pytest.mark.parametrize("address", ["scheduler:8786", "tcp://scheduler", "http://scheduler:8786", "tcp://a b:1"])
def test_an_address_that_is_none_is_named(address: str) -> None:
    assert "compute.dask_address" in message(compute={"runner": "dask", "dask_address": address})
