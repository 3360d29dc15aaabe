"""`python docs/generate.py`: write the parts of the documentation that the code decides, so that they cannot drift.

docs/params.md and docs/quarantine.md as a whole, and the source files that each stage of dvc.yaml depends on.
tests/test_docs.py holds the committed files against what this writes.
"""

import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fetalflex.errors import Reason
from fetalflex.params import Center, Clips, Criterion, Deidentify, Params, Phantom
from fetalflex.params_plan import Anomaly
from fetalflex.quality.gate_metrics import IMAGE_METRICS, RELEASE_METRICS
from fetalflex.reasons import REASONS
from tasks.fingerprints import PACKAGES, import_closure, source_root

DOCS = Path(__file__).resolve().parent
PARAMS, QUARANTINE = DOCS / "params.md", DOCS / "quarantine.md"
CHAIN = DOCS.parent / "dvc.yaml"

MEANINGS: dict[str, dict[str, str]] = {
    "": {"preset": "name of the preset that the values came from; a label, it changes nothing"},
    "data": {
        "seed": "root of all randomness",
        "image_size": "side of the square canvas, pixels",
        "test_fraction": "share of patients kept for measuring, by hash",
        "judge_fraction": "share of patients for the segmenter `judge`, by hash",
    },
    "compute": {
        "runner": "how chunks are spread: `threads` in the stage's process, `dask` on Dask (extra `dask`)",
        "dask_address": "a standing cluster's scheduler (`tcp://host:8786`); null: processes of this machine",
        "workers": "chunks at work at once",
        "threads": "torch threads per worker; changes the last bits of results",
        "train_threads": "torch threads of `prealign` and `train`; changes the last bits of results",
        "device": "where `train` runs",
    },
    "ingest": {
        "centers": "center -> folder under data/ for its frames; `test_only` must match the profile's role",
        "max_side_px": "longer frames are shrunk to this, pixels; their spacing grows with it",
        "shards": "hash buckets, that is files, per center",
    },
    "masks": {
        "steps": "training steps of each segmenter",
        "batch_size": "images per step",
        "learning_rate": "peak of AdamW's learning rate",
        "channels": "channels per level of the UNet, at most four levels",
        "min_confidence": "predicted structures with a lower mean probability are dropped",
        "widened": "copies with a painted wide ventricle for the judge, as a share of the cases with an outline of one",
        "shards": "hash buckets of data/masks",
        "checkpoint_every": "steps between checkpoints",
    },
    "prealign": {
        "steps": "training steps",
        "batch_size": "images per step; the contrastive losses compare within it",
        "learning_rate": "peak of AdamW's learning rate",
        "embedding": "length of tokens and embeddings",
        "hidden": "channels of the encoders' feature maps",
        "temperature": "temperature of the contrastive losses",
        "region_grid": "bins a side on which an image's region is pooled",
        "region_margin": "by how much of its sides a region's box is grown before pooling",
        "image_blocks": "residual blocks of the image encoder",
        "same_structure": "weight of the contrast with regions of the same structure alone; 0: none",
        "checkpoint_every": "steps between checkpoints",
    },
    "train": {
        "steps": "training steps",
        "batch_size": "images per step",
        "learning_rate": "peak of AdamW's learning rate",
        "warmup_steps": "steps of linear warm-up",
        "ema_decay": "decay of the averaged weights, which are the ones kept",
        "backbone": "`unet`: trained from the start; `sd`: adapters on a frozen pretrained Stable Diffusion",
        "base": "of `sd`: its folder in diffusers' layout, or `hub:OWNER/NAME@REVISION`",
        "channels": "channels of the UNet's blocks, multiples of 32",
        "layers_per_block": "residual layers per block",
        "patch": "the network runs at side image_size / patch",
        "attention_side": "blocks attend where their map's side is at most this",
        "control_channels": "layout features concatenated to the input; 0: tokens and residuals alone",
        "time_mean": "mean of the logit of training times (0 is the image, 1 is noise)",
        "time_std": "its standard deviation",
        "drop_layout": "probability that a whole layout is left out",
        "drop_object": "probability, per object, that it is left out",
        "box_probability": "probability that an image's masks become boxes",
        "drop_modality": "probability, each, that plane, center or age is left out",
        "precision": "of the training's forward pass; `auto`: bf16 where the device has it, else fp32. Sampling: fp32",
        "gradient_checkpointing": "less memory for about a third more time; the same numbers",
        "checkpoint_every": "steps between checkpoints",
    },
    "sample": {
        "normal": "normal images",
        "unannotated": "further normal images, of planes without a layout in training; none where all have one",
        "abnormal": "images with the anomaly",
        "pairs": "counterfactual pairs (two images each)",
        "anomalies": "which anomalies share the abnormal images and pairs, see below",
        "layouts": "where normal layouts come from: `varied` training cases, `statistics` of them, or both, `mixed`",
        "statistics_share": "share of the images whose layout is new anatomy, where layouts are `mixed`",
        "statistics_cases": "training cases that a plane needs for a model of its layouts; else they are varied",
        "perturbation": "how far layouts of training cases are varied; 0: not at all",
        "budget": "network evaluations per image at most, all stages together",
        "coarse_steps": "steps from noise; network evaluations per image of the coarse stage",
        "adapt_time": "time in the coarse stage from which coarse objects follow the outlines seen; 0: only afterwards",
        "fine_steps": "evaluations per round of the fine stage",
        "fine_time": "time to which an image is noised again, at agreement 1 and at agreement 0",
        "agreement": "agreement with the asked layout at which refinement stops",
        "guidance": "scale of classifier-free guidance; 1: none",
        "guidance_until": "the latest time (1 is noise) at which guidance acts, but away from an avoided layout",
        "guidance_rescale": "how much of the power that guidance adds is taken away again, band by band; 0: nothing",
        "steering": "how far the guide's gradient moves the predicted image in the fine stage; 0: not at all",
        "solver": "`euler`, or `multistep`: DPM-Solver++ 2M, of second order at as many evaluations",
        "typical_outlines": "whether what such a box usually holds tells an outline, at first alone",
        "real_sectors": "whether images end at the nearest field of view of their center's training images",
        "remove_checkerboard": "whether the faint mesh of the denoiser's patches is taken out of images",
        "darkening": "how far edited fluid is drawn to the darkest grey around it; 0: not at all",
        "repaint_jumps": "resampling jumps per step of a repaint",
        "repaint_margin_px": "how far the region of a repaint is grown, and blended, pixels",
        "batch_size": "constant, padded batch; another value changes the last bits of images",
        "shards": "hash buckets of data/synthetic",
    },
    "anomaly": {
        "name": "which anomaly; exactly one of `name` and `together` is given",
        "together": "two at once, each with an entry of its own, which says its severities",
        "severity": "range of the severity, in the anomaly's unit; null: the whole range that the anomaly has",
        "weight": "share of the abnormal images and pairs; 0: only for `together`",
    },
    "score": {
        "encoders": "features for the distances, the first for the headline: `inception`, `aligner`, `texture`, "
        "`radiomics` (an extra), `folder:PATH` or `hub:OWNER/NAME@REVISION`",
        "lpips": "the backbone of LPIPS diversity: a place with VGG-16 in safetensors; null: not measured",
        "bootstrap": "bootstrap draws behind each interval",
        "max_real": "real images per group that are compared with, whole patients",
        "canaries": "training images planted, of each alteration, to measure the search for copies",
    },
    "evaluate": {
        "models": "which classifiers",
        "size": "`full`: as published; `small`, `tiny`: narrower and shallower, for a CPU",
        "pretrained": "classifier -> folder in transformers' layout, or `hub:OWNER/NAME`; all others start at random",
        "tasks": "which tasks",
        "arms": "what is learnt from, see above",
        "plane_metric": "pre-registered metric of the plane task",
        "anomaly_metric": "pre-registered metric of the anomaly task",
        "anomaly_test": "pre-registered test of the anomaly task, see above",
        "shots": "pre-registered share of the real training patients",
        "seeds": "trainings per classifier, task and arm",
        "steps": "training steps, equal in all arms",
        "batch_size": "images per step",
        "learning_rate": "peak of AdamW's learning rate; a quarter of it for ConvNeXt, ViT and Swin",
        "ratio": "synthetic images per real one in the arm `real+synthetic`, at most",
        "more_ratios": "further ratios of that arm, told beside it",
        "few_shot": "shares of the real training patients at which the two main arms are compared as well",
        "few_shot_seeds": "trainings per point of those curves",
        "leave_center_seeds": "trainings per center left out, of the two main arms; 0: none",
        "detectors": "detectors that know normal images alone",
        "reconstruction_time": "time to which the counterfactual detector noises an image (1 is noise)",
        "reconstruction_steps": "its network evaluations per reconstruction; there are two per image",
        "bootstrap": "bootstrap draws behind each interval and p",
    },
    "gate": {
        "release": "criteria of the release, see below",
        "image": "criteria of each image, see below",
    },
    "criterion": {
        "metric": "name of a metric, see below",
        "at_least": "lower bound; exactly one bound is given",
        "at_most": "upper bound; exactly one bound is given",
        "reason": "why this value; stands in the verdict",
    },
    "center": {
        "title": "the center's name for readers",
        "role": "`normal`, or `test_only`: read by no training stage",
        "licence": "under which terms the images may be used",
        "consent": "what patients or a board agreed to; stands in every release",
        "planes": "word in the study's or series' description -> plane; the first that occurs decides",
        "findings": "`test_only` alone: word in the series description -> what the image shows; the first decides",
        "annotations": "which annotation objects are read: segmentations (DICOM SEG), boxes (structured reports)",
        "spacing": "`header`: as stated; `ignore`: taken as unknown; `required`: images without it are set aside",
        "clips": "which still frames are taken from clips, see below",
        "deidentify": "options of the de-identification, see below",
        "phantom": "only for embedded centers: the simulated source",
    },
    "clips": {
        "frames": "still frames per clip, at most",
        "rule": "`even`: evenly spaced; `distinct`: those that differ most from one another",
    },
    "deidentify": {
        "descriptors": "`clean`: words of our vocabularies stay in descriptions; `remove`: descriptions go as a whole",
        "dates": "`shift`: all dates of a patient move by one secret number of days; `remove`: they go",
        "device": "`keep`: maker, model and software stay; `remove`: they go",
    },
    "phantom": {
        "device": "which simulated device",
        "patients": "how many simulated patients",
        "seed": "seed of the patients; more patients leave the former ones as they are",
    },
}


def params_page() -> str:
    """Return docs/params.md."""
    parts = [
        "# Parameters",
        "Written by `python docs/generate.py` from `fetalflex/params.py`; do not edit by hand.",
        "`params.yaml` holds every value of a workspace, because DVC must see every change. Defaults below are\n"
        "those of the code; the presets (`fetalflex/presets/`) set their own where they differ. A preset is written\n"
        "into `params.yaml` by `fetalflex params --preset NAME`, which replaces what stood there, the list of centers\n"
        "too. An unknown key, a wrong type or an impossible combination is an error that names the key.",
        "## The file\n\n" + _table("", Params, only=("preset",)),
    ]
    for name, field in Params.model_fields.items():
        if name != "preset" and isinstance(field.annotation, type):
            parts.append(f"## {name}\n\n{_doc(field.annotation)}\n\n{_table(name, field.annotation)}")
        if name == "sample":
            parts.append(f"### An anomaly that is asked\n\n{_doc(Anomaly)}\n\n{_table('anomaly', Anomaly)}")
    parts += [
        f"### A criterion of the gate\n\n{_doc(Criterion)}\n\n{_table('criterion', Criterion)}",
        "### Metrics of a release\n\n" + _metrics(RELEASE_METRICS),
        "### Metrics of an image\n\n" + _metrics(IMAGE_METRICS),
        f"## A center's profile: centers/NAME.yaml\n\n{_doc(Center)}\n\n{_table('center', Center)}",
        f"### clips\n\n{_doc(Clips)}\n\n{_table('clips', Clips)}",
        f"### deidentify\n\n{_doc(Deidentify)}\n\n{_table('deidentify', Deidentify)}",
        f"### phantom\n\n{_doc(Phantom)}\n\n{_table('phantom', Phantom)}",
    ]
    return "\n\n".join(parts) + "\n"


def reasons_table() -> str:
    """Return the table of quarantine reasons."""
    rows = [f"| `{reason.value}` | {REASONS[reason][0]} | {REASONS[reason][1]} |" for reason in Reason]
    return "\n".join(["| reason | the file, frame or annotation | what to do |", "|---|---|---|", *rows])


def quarantine_page() -> str:
    """Return docs/quarantine.md."""
    return (
        "\n\n".join(
            [
                "# Quarantine: every reason",
                "Written by `python docs/generate.py` from `fetalflex/errors.py`; do not edit by hand.",
                "What cannot be used is never guessed at: it becomes a row of the center's `quarantine.parquet` with\n"
                "one of these reasons, and nothing else is lost. The report and the onboarding page count them.",
                reasons_table(),
            ]
        )
        + "\n"
    )


def _doc(model: type[BaseModel]) -> str:
    lines = [line.strip() for line in (model.__doc__ or "").splitlines()]
    return "\n".join(lines).strip()


def _table(section: str, model: type[BaseModel], only: tuple[str, ...] = ()) -> str:
    schema = model.model_json_schema()
    fields = [name for name in model.model_fields if not only or name in only]
    unknown = set(MEANINGS[section]) ^ set(fields)
    if unknown:
        raise SystemExit(f"docs/generate.py: MEANINGS[{section!r}] and the parameters differ in {sorted(unknown)}")
    rows = ["| key | meaning | allowed | default |", "|---|---|---|---|"]
    for name in fields:
        value = schema["properties"][name]
        default = f"`{_value(value['default'])}`" if "default" in value else "must be given"
        rows.append(f"| `{name}` | {MEANINGS[section][name]} | {_allowed(value, schema)} | {default} |")
    return "\n".join(rows)


def _allowed(value: dict[str, Any], schema: dict[str, Any]) -> str:
    if "$ref" in value:
        kind = value["$ref"].rsplit("/", 1)[-1]
        return f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind.lower()}"
    if "anyOf" in value:
        return " or ".join(_allowed(v, schema) for v in value["anyOf"])
    if "enum" in value or "const" in value:
        return ", ".join(f"`{v}`" for v in value.get("enum", [value.get("const")]))
    if value.get("type") == "array":
        items = value.get("prefixItems")
        return f"list of {len(items)}: {_allowed(items[0], schema)}" if items else f"list: {_items(value, schema)}"
    if value.get("type") == "object":
        return "map"
    return " ".join([_WORDS[value.get("type", "")], *_bounds(value)])


_WORDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "null": "nothing",
    "boolean": "true or false",
}
_SIGNS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def _items(value: dict[str, Any], schema: dict[str, Any]) -> str:
    return _allowed(value["items"], schema)


def _bounds(value: dict[str, Any]) -> list[str]:
    return [f"{sign} {value[name]:g}" for name, sign in _SIGNS.items() if name in value]


def _value(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_value(v)}" for name, v in value.items() if v is not None) + "}"
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _metrics(metrics: dict[str, str]) -> str:
    rows = [f"| `{name}` | {meaning} |" for name, meaning in metrics.items()]
    return "\n".join(["| metric | meaning |", "|---|---|", *rows])


def chain(text: str) -> str:
    """Return dvc.yaml with each stage's dependencies on source code renewed; all other lines stay as they are."""
    lines: list[str] = []
    stage, in_deps = "", False
    for line in text.splitlines():
        if line.startswith("  ") and line[2] not in " #-":
            stage = line.strip().rstrip(":")
        if in_deps and not line.lstrip().startswith("- "):
            indent = lines[-1][: len(lines[-1]) - len(lines[-1].lstrip())]
            lines += [f"{indent}- {p.relative_to(source_root())}" for p in import_closure(f"flows.{stage}")]
            in_deps = False
        in_deps = in_deps or line.strip() == "deps:"
        if not (in_deps and line.strip().removeprefix("- ").split("/")[0] in PACKAGES):
            lines.append(line)
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write all of them."""
    CHAIN.write_text(chain(CHAIN.read_text(encoding="utf-8")), encoding="utf-8")
    PARAMS.write_text(params_page(), encoding="utf-8")
    QUARANTINE.write_text(quarantine_page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
