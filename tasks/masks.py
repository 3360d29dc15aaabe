"""Structures of every case: expert annotations, and what the guide predicts where there are none."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fetalflex import rng, tables
from fetalflex.anatomy.layout import Mask
from fetalflex.anatomy.ontology import STRUCTURE_NAMES
from fetalflex.artifacts import decode_png, encode_png, picture, writing_folder
from fetalflex.dataset import ABSENT, Cases, from_canvas, load_cases
from fetalflex.ingest.duplicates import find_duplicates
from fetalflex.masks.segmenter import WHOLE, Segmenter, SegmenterRun, predicted_structures, train_segmenter
from fetalflex.masks.widening import with_widened
from fetalflex.splits import assign_groups
from tasks.cases import read_annotations, read_frames
from tasks.chunks import ChunkWork
from tasks.stage import StageRun
from tasks.training import drive, write_curve

ROLES = ("guide", "judge")
_GROUP_OF = {"guide": "train", "judge": "judge"}


class MaskWork(ChunkWork):
    """What the chunks of the stage share: frames, groups of patients and expert structures."""

    def __init__(self, run: StageRun) -> None:
        """Read the frames of the listed centers and put their patients into groups."""
        super().__init__(run)
        params = run.params
        self.frames = read_frames(run.root, params)
        data = params.data
        self.duplicates = self._duplicates()
        self.splits = assign_groups(self.frames, data.seed, data.test_fraction, data.judge_fraction, self.duplicates)
        self.expert = expert_rows(self.frames, read_annotations(run.root, params))
        masks = pl.DataFrame(self.expert, schema=tables.Masks.create_empty().schema)
        self.cases = load_cases(self.frames, masks, self.splits, data.image_size)
        self.shards = [f"{n:02d}" for n in range(params.masks.shards)]

    def _duplicates(self) -> pl.DataFrame:
        """Return the pairs of frames that are one picture; found once, even where the stage is cut off later."""

        def find(folder: Path) -> None:
            tables.write_shard(folder / "duplicates.parquet", find_duplicates(self.frames), tables.Duplicates)

        return tables.read_shards([self.run.once("duplicates", find) / "duplicates.parquet"], tables.Duplicates)

    def train(self, role: str, folder: Path) -> None:
        """Train the guide (on the training group) or the judge (on its own) into a chunk's folder."""
        run, params = self.run, self.run.params
        cases = self.cases.of_group(_GROUP_OF[role])
        annotated = cases.take((cases.sources != ABSENT).any(axis=1))
        if role == "judge":  # the guide's guesses become layouts of normal images: it learns from normal ones alone
            annotated = with_widened(annotated, params.masks.widened, params.data.seed)
        curve = run.work / f"{role}.jsonl"
        where = SegmenterRun(role, params.data.seed, run.work / f"state-{role}", params.compute.threads)  # type: ignore[arg-type]
        steps = train_segmenter(annotated, params.masks, where)
        segmenter = drive(steps, params.masks.steps, f"masks: {role}", curve)
        segmenter.save(folder)
        write_curve(curve, folder / "curve.json")

    def predict(self, shard: str, folder: Path) -> None:
        """Write one shard of structures: expert ones, and predicted ones where nobody annotated a plane's structure."""
        number, shards = int(shard), self.run.params.masks.shards
        here = np.array([rng.bucket(str(c), shards) == number for c in self.cases.ids])
        rows = [row for row in self.expert if rng.bucket(row["case_id"], shards) == number]
        rows += predicted_rows(
            Segmenter.load(self.run.chunk("guide")),
            self.cases.take(here),
            self.frames,
            self.run.params.masks.min_confidence,
        )
        tables.write_shard(folder / f"masks-{shard}.parquet", rows, tables.Masks)

    def publish(self) -> None:
        """Put shards, splits and both segmenters in place."""
        whole = self.run.work / "whole"
        with writing_folder(whole) as partial:
            for shard in self.shards:
                name = f"masks-{shard}.parquet"
                (partial / name).write_bytes((self.run.chunk(shard) / name).read_bytes())
            tables.write_shard(partial / "splits.parquet", self.splits, tables.Splits)
            tables.write_shard(partial / "duplicates.parquet", self.duplicates, tables.Duplicates)
        self.run.publish({"data/masks": whole} | {f"models/{role}": self.run.chunk(role) for role in ROLES})


def expert_rows(frames: pl.DataFrame, annotations: pl.DataFrame) -> list[dict[str, Any]]:
    """Return rows of `tables.Masks`: annotations of one structure in one case are united (masks go before boxes)."""
    centers = dict(frames.select("case_id", "center").iter_rows())
    found: dict[tuple[str, str], dict[str, Any]] = {}
    shapes: dict[tuple[str, str], Mask] = {}
    for item in annotations.sort("case_id", "structure", "number").iter_rows(named=True):
        name = (item["case_id"], item["structure"])
        row = found.setdefault(
            name,
            {
                "case_id": name[0], "center": centers[name[0]], "structure": name[1], "source": "expert",
                "mask": None, "confidence": 1.0, **{c: item[c] for c in ("x0", "y0", "x1", "y1")},
            },
        )  # fmt: skip
        row |= {c: min(row[c], item[c]) for c in ("x0", "y0")} | {c: max(row[c], item[c]) for c in ("x1", "y1")}
        if item["kind"] == "mask":
            mask = decode_png(item["mask"]["bytes"]) > 127
            shapes[name] = shapes[name] | mask if name in shapes else mask
    for name, mask in shapes.items():
        found[name]["mask"] = {"bytes": encode_png(mask.astype(np.uint8) * 255), "path": f"{name[0]}-{name[1]}.png"}
    return list(found.values())


def predicted_rows(guide: Segmenter, cases: Cases, frames: pl.DataFrame, min_confidence: float) -> list[dict[str, Any]]:
    """Return rows of `tables.Masks` for structures of a case's plane that nobody annotated and the guide finds."""
    sizes = {c: (h, w) for c, h, w in frames.select("case_id", "height", "width").iter_rows()}
    rows: list[dict[str, Any]] = []
    if not len(cases):
        return rows
    for item in predicted_structures(guide.predict(cases.images), cases.planes, min_confidence, WHOLE):
        if cases.sources[item.image, STRUCTURE_NAMES.index(item.structure)] != ABSENT:
            continue
        case_id = str(cases.ids[item.image])
        height, width = sizes[case_id]
        mask = from_canvas(item.mask & cases.valid[item.image], height, width)
        if not mask.any():
            continue
        ys, xs = np.nonzero(mask)
        rows.append(
            {
                "case_id": case_id, "center": str(cases.centers[item.image]), "structure": item.structure,
                "source": "predicted", "mask": picture(mask.astype(np.uint8) * 255, f"{case_id}-{item.structure}"),
                "x0": float(xs.min()), "y0": float(ys.min()), "x1": float(xs.max() + 1), "y1": float(ys.max() + 1),
                "confidence": item.confidence,
            }
        )  # fmt: skip
    return rows
