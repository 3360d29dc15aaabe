"""What `generate` leaves on disk, in three formats; a run that was cut off goes on after its last finished image.

Every file appears whole. The journal names an image only after its files are in place; the manifest is made of the
journal at the end, so a folder with a manifest is finished.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from fetalflex import tables
from fetalflex.artifacts import Grey, atomic, encode_png, picture, read_json, write_json
from fetalflex.diffusion.two_stage import SampleResult
from fetalflex.errors import UsageError
from fetalflex.synthesis.requests import Planned

Format = Literal["png", "parquet", "dicom"]
FORMATS: tuple[Format, ...] = ("png", "parquet", "dicom")
JOURNAL, SETTINGS, MANIFEST = ".generate.jsonl", ".generate.json", "manifest.parquet"
PER_SHARD = 64


@dataclass(frozen=True, eq=False)
class Made:
    """An image with its plan and its row of the manifest, so far without files."""

    planned: Planned
    result: SampleResult
    row: dict[str, Any]


class Writer(Protocol):
    """Writes images of one format; `close` writes what is held back."""

    def add(self, made: Made) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class Folder:
    """An output folder: its settings, its journal, its manifest."""

    def __init__(self, root: Path, settings: dict[str, Any]) -> None:
        """Open a folder. Raises: UsageError where it holds something else, or a run with other settings."""
        self.root = root
        known = root / SETTINGS
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is a file; name a folder")
        if root.is_dir() and any(root.iterdir()):
            found = read_json(known) if known.is_file() else None
            if found is None:
                raise UsageError(f"{root} is not empty: name a new folder, or that of a run that was cut off")
            other = sorted(k for k in settings.keys() | found.keys() if settings.get(k) != found.get(k))
            if other:
                raise UsageError(f"{root} holds a run with another {', '.join(other)}: name a new folder")
        self._settings = settings

    def begin(self) -> dict[str, dict[str, Any]]:
        """Make the folder and return the rows of images that are finished, by id; rests of a killed run are removed."""
        self.root.mkdir(parents=True, exist_ok=True)
        for partial in self.root.rglob(".*.partial"):
            partial.unlink()
        write_json(self.root / SETTINGS, self._settings)
        rows: dict[str, dict[str, Any]] = {}
        journal = self.root / JOURNAL
        for line in journal.read_text(encoding="utf-8").splitlines() if journal.is_file() else []:
            if line.startswith("{") and line.endswith("}"):  # a kill may have cut the last line
                row = json.loads(line)
                rows[row["image_id"]] = row
        return {k: row for k, row in rows.items() if (self.root / row["file"]).is_file()}

    def note(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write down finished images."""
        with (self.root / JOURNAL).open("a", encoding="utf-8") as out:
            for row in rows:
                out.write("\n" + json.dumps(row) + "\n")

    def finish(self, ids: Iterable[str]) -> Path:
        """Write the manifest of these images."""
        rows = self.begin()
        tables.write_shard(self.root / MANIFEST, [rows[i] for i in ids], tables.Generated)
        return self.root / MANIFEST


def open_writer(kind: Format, folder: Folder) -> Writer:
    """Return what writes that format into a folder."""
    writers: dict[Format, type[_Pngs] | type[_Shards] | type[_Dicoms]]
    writers = {"png": _Pngs, "parquet": _Shards, "dicom": _Dicoms}
    return writers[kind](folder)


def finished(kind: Format, rows: dict[str, dict[str, Any]], plan: list[Planned]) -> set[str]:
    """Return the ids that need not be made again: in shards, those of shards that hold all that they shall hold."""
    done = {p.request.image_id for p in plan if p.request.image_id in rows}
    if kind != "parquet":
        return done
    shards: dict[int, set[str]] = {}
    for p in plan:
        shards.setdefault(p.number // PER_SHARD, set()).add(p.request.image_id)
    return {i for ids in shards.values() if ids <= done for i in ids}


class _Pngs:
    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def add(self, made: Made) -> None:
        image_id = made.result.image_id
        row = made.row | _beside(self.folder.root, made) | {"file": f"images/{image_id}.png"}
        write_png(self.folder.root / row["file"], made.result.image)
        self.folder.note([row])

    def close(self) -> None:
        """Nothing is held back."""


class _Dicoms:
    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def add(self, made: Made) -> None:
        from fetalflex.synthesis.dicom_out import Synthetic, write_synthetic

        image_id = made.result.image_id
        row = made.row | _beside(self.folder.root, made) | {"file": f"dicom/{image_id}.dcm"}
        layout = made.planned.request.layout
        names = (str(row["seed"]), row["model"], layout.plane, row["layout"])
        write_synthetic(
            self.folder.root / "dicom", image_id, Synthetic(made.result.image, layout, made.planned.number, names)
        )
        self.folder.note([row])

    def close(self) -> None:
        """Nothing is held back."""


class _Shards:
    def __init__(self, folder: Folder) -> None:
        self.folder, self._number, self._held = folder, -1, list[Made]()

    def add(self, made: Made) -> None:
        number = made.planned.number // PER_SHARD
        if number != self._number:
            self.close()
            self._number = number
        self._held.append(made)

    def close(self) -> None:
        if not self._held:
            return
        name = f"images-{self._number:03d}.parquet"
        rows = [
            {"image_id": m.result.image_id, "image": picture(m.result.image, m.result.image_id)}
            | {k: m.row[k] for k in ("plane", "anomalies", "layout")}
            for m in self._held
        ]
        tables.write_shard(self.folder.root / name, rows, tables.GeneratedImages)
        self.folder.note(m.row | _beside(self.folder.root, m, layouts=False) | {"file": name} for m in self._held)
        self._held = []


def _beside(root: Path, made: Made, *, layouts: bool = True) -> dict[str, str | None]:
    """Write what lies beside an image and return the columns that name it."""
    image_id, region = made.result.image_id, made.result.region
    named: dict[str, str | None] = {"layout_file": None, "region_file": None}
    if layouts:
        named["layout_file"] = f"layouts/{image_id}.json"
        with atomic(root / f"layouts/{image_id}.json") as partial:
            partial.write_text(made.planned.request.layout.to_json() + "\n", encoding="utf-8")
    if region is not None:
        named["region_file"] = f"regions/{image_id}.png"
        write_png(root / f"regions/{image_id}.png", region.astype(np.uint8) * 255)
    return named


def write_png(path: Path, pixels: Grey) -> None:
    """Write an 8-bit grey PNG, whole or not at all."""
    with atomic(path) as partial:
        partial.write_bytes(encode_png(pixels))
