"""Tables of earlier stages read into the arrays that networks and metrics take."""

from pathlib import Path

import dataframely as dy
import polars as pl

from fetalflex import tables
from fetalflex.dataset import Cases, load_cases
from fetalflex.dataset import patient_names as patient_names
from fetalflex.errors import ArtifactError
from fetalflex.params import Params
from tasks.workspace import check_role, load_center

MASKS = Path("data/masks")


def training_centers(params: Params) -> list[str]:
    """Return the centers whose frames lie in data/frames: those of role `test_only` are none of them."""
    return sorted(name for name, folder in params.ingest.centers.items() if folder == "frames")


def read_frames(root: Path, params: Params) -> pl.DataFrame:
    """Read the frames of the centers listed in the parameters, and of no others. Raises: ArtifactError."""
    return _read(root, params, "frames-*.parquet", tables.Frames)


def read_annotations(root: Path, params: Params) -> pl.DataFrame:
    """Read the expert annotations of the centers listed in the parameters."""
    return _read(root, params, "annotations-*.parquet", tables.Annotations)


def read_findings(root: Path, params: Params) -> pl.DataFrame:
    """Read the frames of `test_only` centers whose finding is known: columns of Frames and `finding`. For tests alone.

    Empty where there is no such center. Raises: ArtifactError.
    """
    known: list[pl.DataFrame] = []
    for name in sorted(c for c, folder in params.ingest.centers.items() if folder == "test_only"):
        place = root / "data" / "test_only" / name
        if not load_center(root, name).findings:
            continue
        if not (place / "findings.parquet").is_file():
            raise ArtifactError(f"center {name}: data/test_only/{name} holds no findings.parquet: run 'fetalflex run'")
        found = tables.read_shards([place / "findings.parquet"], tables.Findings)
        frames = tables.read_shards(sorted(place.glob("frames-*.parquet")), tables.Frames)
        known.append(frames.join(found, on="case_id", how="inner", validate="1:1").sort("case_id"))
    return pl.concat(known) if known else pl.DataFrame()


def _read(root: Path, params: Params, pattern: str, schema: type[dy.Schema]) -> pl.DataFrame:
    paths: list[Path] = []
    for name in training_centers(params):
        if (root / "centers" / f"{name}.yaml").is_file():  # its role may have changed after its frames were made
            check_role(name, "frames", load_center(root, name))
        found = sorted((root / "data" / "frames" / name).glob(pattern))
        if not found:
            raise ArtifactError(f"center {name}: data/frames/{name} holds no {pattern}: run 'fetalflex run'")
        paths += found
    return tables.read_shards(paths, schema)


def read_cases(root: Path, params: Params) -> Cases:
    """Read frames, masks and groups of patients as arrays on the training canvas."""
    masks = tables.read_shards((root / MASKS).glob("masks-*.parquet"), tables.Masks)
    splits = tables.read_shards([root / MASKS / "splits.parquet"], tables.Splits)
    return load_cases(read_frames(root, params), masks, splits, params.data.image_size)


def read_synthetic(root: Path) -> pl.DataFrame:
    """Read the synthetic images."""
    return tables.read_shards((root / "data" / "synthetic").glob("images-*.parquet"), tables.Synthetic)
