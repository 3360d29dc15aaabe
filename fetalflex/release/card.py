"""The dataset card: README.md of a release, with the hub's YAML header. Only what is known stands there."""

from collections.abc import Mapping
from typing import Any

import yaml

from fetalflex.anatomy.ontology import STRUCTURES, plane
from fetalflex.release.manifest import Manifest

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_card(manifest: Manifest, quality: Mapping[str, Any], downstream: Mapping[str, Any]) -> str:
    """Return the card as Markdown with a YAML header. Equal facts give equal text: no clock is read."""
    parts = [
        "---\n" + yaml.safe_dump(_header(manifest), sort_keys=False, allow_unicode=True) + "---",
        f"# Synthetic fetal ultrasound, release {manifest.tag}",
        _verdict(manifest),
        "![Images with what was asked drawn over them](samples.png)",
        "## What is in it\n\n" + _contents(manifest),
        "## Use\n\n" + _USE,
        "## Figures\n\n" + _figures(quality, downstream),
        "## Where it comes from\n\n" + _origins(manifest),
        "## Intended use and limits\n\n" + _list(manifest.intended_use) + "\n\n" + _list(manifest.limits),
        "## Proof\n\n" + _PROOF.replace("TAG", manifest.tag),
    ]
    return "\n\n".join(parts) + "\n"


def _header(manifest: Manifest) -> dict[str, Any]:
    total = manifest.images.total
    size = next((name for limit, name in _SIZES if total < limit), "n>1M")
    splits = ("accepted", manifest.images.accepted), ("rejected", total - manifest.images.accepted)
    return {
        "license": "other",
        "license_name": "that-of-the-training-data",
        "pretty_name": f"Synthetic fetal ultrasound {manifest.tag}",
        "task_categories": ["image-segmentation", "image-classification", "object-detection"],
        "tags": ["medical", "ultrasound", "fetal", "synthetic", "fetalflex"],
        "size_categories": [size],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": n, "path": f"data/{n}-*.parquet"} for n, count in splits if count],
            }
        ],
    }


def _verdict(manifest: Manifest) -> str:
    passed = "**The gate accepted this release.**"
    if manifest.marked is not None:
        passed = (
            f"> **Warning: the gate rejected this release** ({manifest.marked}). It was made all the same, on demand."
        )
    rows = [
        f"| {c['metric']} | {_number(c['value'])} | {c['bound']} | {_yes(c['passed'])} | {c['reason']} |"
        for c in manifest.gate["criteria"]
    ]
    return passed + "\n\n" + _table("criterion | value | bound | reached | why", rows)


def _contents(manifest: Manifest) -> str:
    images = manifest.images
    rows = [f"| images that the gate accepts one by one | {images.accepted} of {images.total} |"]
    rows += [f"| {name} | {count} |" for name, count in sorted(images.by_kind.items())]
    rows += [f"| {plane(name).meaning} | {count} |" for name, count in sorted(images.by_plane.items())]
    rows += [f"| {name.replace('-', ' ')} | {count} |" for name, count in sorted(images.by_anomaly.items())]
    labels = ", ".join(f"{n} {s.name}" for n, s in enumerate(STRUCTURES, 1))
    return _table("what | images", rows) + (
        "\n\nA counterfactual pair is the same image without and with an anomaly (`pair-normal`, `pair-abnormal`, tied "
        "by `pair_id`); outside of `region` the two are equal bit for bit. Rejected images are a split of their own "
        f"(red frames in the picture), with the reason in `rejected_for`.\n\nNumbers in `labels`: {labels}."
    )


def _figures(quality: Mapping[str, Any], downstream: Mapping[str, Any]) -> str:
    rows = [_figure(f"{f['name']} to real test images", f, f.get("n_synthetic")) for f in quality.get("fidelity") or ()]
    rows += [_figure(f"judge's Dice, {c['structure']}", c, c.get("n")) for c in quality.get("control") or ()]
    for row in downstream.get("results") or ():
        if row.get("difference") is not None and row.get("primary", True):  # the pre-registered ones
            about = {"value": row["difference"], "low": row.get("difference_low"), "high": row.get("difference_high")}
            name = " ".join(str(row[k]) for k in ("model", "metric", "arm") if row.get(k) is not None)
            rows.append(_figure(f"gain over real data alone: {name}", about, None))
    if not rows:
        return "None were measured."
    encoder = f"Features of the distances: {quality.get('encoder', 'not stated')}.\n\n"
    return encoder + _table("figure | value | 95 % interval | images", rows)


def _figure(name: str, row: Mapping[str, Any], n: Any) -> str:
    low, high = row.get("low"), row.get("high")
    interval = "-" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    return f"| {name} | {_number(row.get('value'))} | {interval} | {n if n is not None else '-'} |"


def _origins(manifest: Manifest) -> str:
    rows = [
        f"| {c.title} | {c.role.replace('_', ' ')} | {c.images} | {c.licence} | {c.consent or 'not stated'} |"
        for c in manifest.centers
    ]
    return _table("center | role | images | licence of its data | consent", rows) + (
        "\n\nNo image of a patient is part of this release. Who uses it is bound by the licences above. Layouts of "
        "images whose `layout` was varied follow the outlines of one training image.\n\n"
        f"Model: SHA-256 `{manifest.model_sha256}`. Seed {manifest.seeds['data']}. "
        f"FetalFlex {manifest.environment['fetalflex']}."
    )


def _table(head: str, rows: list[str]) -> str:
    columns = head.split(" | ")
    return "\n".join([f"| {head} |", "|" + "---|" * len(columns), *rows])


def _list(items: tuple[str, ...]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _yes(passed: bool) -> str:
    return "yes" if passed else "**no**"


def _number(value: Any) -> str:
    return "not measured" if value is None else f"{value:.3g}"


_USE = """```text
from datasets import load_dataset
images = load_dataset("FOLDER/huggingface", split="accepted")
```

`huggingface/` holds Parquet with the images, maps of labels and layouts; `coco/` PNG with COCO annotations; `dicom/`
Ultrasound Image objects that say that they are synthetic, outlines as DICOM SEG, boxes as structured reports."""

_PROOF = """`release/manifest.json` of the git tag `TAG` names every file and, through `images.parquet`, every image by
its SHA-256, with seeds, versions and the verdict. `fetalflex verify TAG` makes images again and holds all of it against
it."""
