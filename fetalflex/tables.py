"""Tables on disk: Parquet shards with PNG bytes, and the declared schema of each (dataframely).

Validated when written and when read. Images and masks are `struct<bytes, path>` with PNG bytes, and shards carry
the `huggingface` schema metadata and small row groups, so that `datasets` and the hub's viewer open them.
Rows are sorted by primary key and compression is fixed, so equal content is equal bytes.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dataframely as dy
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fetalflex.artifacts import atomic
from fetalflex.errors import ArtifactError

ROW_GROUP = 64
GROUPS = ("train", "judge", "test")
_VALUES = {pl.Float64: "float64", pl.Int32: "int32", pl.Int64: "int64", pl.Boolean: "bool"}  # all else is text
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _picture(*, nullable: bool = False) -> dy.Struct:
    return dy.Struct({"bytes": dy.Binary(nullable=nullable), "path": dy.String(nullable=nullable)}, nullable=nullable)


class Frames(dy.Schema):
    """De-identified frames of one center: `data/frames/<center>/frames-NN.parquet`, one row per image.

    `case_id` and `patient` are keyed hashes. `spacing_mm` is isotropic (mm per pixel of the stored image),
    null where the source does not state it. `pixels` is the SHA-256 of the stored grey levels, `phash` a 64-bit
    perceptual hash (16 hex digits) for finding near-duplicates, `level` the mean grey level of the tissue (what gain
    and time-gain compensation made of it). `marks`: JSON list of what was blanked or drawn inside the ultrasound,
    `[{"kind": "text" | "caliper", "box": [x0, y0, x1, y1]}]` in frame pixels, end exclusive: losses leave it out.
    """

    case_id = dy.String(primary_key=True, min_length=16)
    center = dy.String(nullable=False)
    patient = dy.String(nullable=False, min_length=16)
    image = _picture()
    plane = dy.String(nullable=False)
    age_weeks = dy.Float64(nullable=True, min=4, max=45)
    spacing_mm = dy.Float64(nullable=True, min_exclusive=0)
    height = dy.Int32(nullable=False, min=8)
    width = dy.Int32(nullable=False, min=8)
    device = dy.String(nullable=False)
    pixels = dy.String(nullable=False, min_length=64)
    phash = dy.String(nullable=False, min_length=16)
    level = dy.Float64(nullable=False, min=0, max=255)
    marks = dy.String(nullable=False)


class Annotations(dy.Schema):
    """Expert annotations as ingested: `data/frames/<center>/annotations-NN.parquet`, in frame pixels.

    `kind` is `mask` (then `mask` holds a PNG of the frame's size, 0/255) or `box` (then it is null).
    Boxes are x0, y0, x1, y1 with x1, y1 exclusive, in pixels of the frame.
    """

    case_id = dy.String(primary_key=True, min_length=16)
    structure = dy.String(primary_key=True)
    number = dy.Int32(primary_key=True, min=0)
    kind = dy.Enum(["mask", "box"], nullable=False)
    mask = _picture(nullable=True)
    x0 = dy.Float64(nullable=False)
    y0 = dy.Float64(nullable=False)
    x1 = dy.Float64(nullable=False)
    y1 = dy.Float64(nullable=False)


class Quarantine(dy.Schema):
    """What could not be used: `data/frames/<center>/quarantine.parquet`. `file_id` is a keyed hash of the file."""

    file_id = dy.String(nullable=False, min_length=16)
    reason = dy.String(nullable=False)
    detail = dy.String(nullable=False)


class Findings(dy.Schema):
    """What frames of a `test_only` center show: `data/test_only/<center>/findings.parquet`, in its profile's words."""

    case_id = dy.String(primary_key=True, min_length=16)
    finding = dy.String(nullable=False, min_length=1)


class Masks(dy.Schema):
    """Structures of each case: `data/masks/masks-NN.parquet`, in frame pixels, expert or predicted.

    `mask` is null where only a box is known. `confidence` is 1 for expert annotations, else the mean
    foreground probability of the segmenter.
    """

    case_id = dy.String(primary_key=True, min_length=16)
    center = dy.String(nullable=False)
    structure = dy.String(primary_key=True)
    source = dy.Enum(["expert", "predicted"], nullable=False)
    mask = _picture(nullable=True)
    x0 = dy.Float64(nullable=False)
    y0 = dy.Float64(nullable=False)
    x1 = dy.Float64(nullable=False)
    y1 = dy.Float64(nullable=False)
    confidence = dy.Float64(nullable=False, min=0, max=1)


class Duplicates(dy.Schema):
    """Frames that are one picture: `data/masks/duplicates.parquet`, one row per pair, `case_a` < `case_b`.

    `exact`: equal stored pixels (each copy is paired with the first alone); `near`: the same picture in another size,
    crop, grey map or compression. `distance`: differing bits of the perceptual hashes; `correlation`: of the aligned
    detail. `same_patient` is false where two patient numbers (or two centers) share the picture: they are tied.
    """

    case_a = dy.String(primary_key=True, min_length=16)
    case_b = dy.String(primary_key=True, min_length=16)
    kind = dy.Enum(["exact", "near"], nullable=False)
    distance = dy.Int32(nullable=False, min=0, max=64)
    correlation = dy.Float64(nullable=False, min=-1, max=1)
    same_patient = dy.Bool(nullable=False)
    same_center = dy.Bool(nullable=False)


class Splits(dy.Schema):
    """Which group of patients each case belongs to: `data/masks/splits.parquet`.

    `cluster` names patients tied by a shared image: they all share one group. `tied_by` is null for a patient that
    shares none, `exact` where it shares equal pixels with another, else `near`. `moved_from` is the group that the
    patient's own hash gave, where the cluster (touching judge or test) moved it away from there.
    """

    case_id = dy.String(primary_key=True, min_length=16)
    center = dy.String(nullable=False)
    patient = dy.String(nullable=False)
    cluster = dy.String(nullable=False)
    tied_by = dy.Enum(["exact", "near"], nullable=True)
    group = dy.Enum(list(GROUPS), nullable=False)
    moved_from = dy.Enum(list(GROUPS), nullable=True)


class Synthetic(dy.Schema):
    """Synthetic images: `data/synthetic/images-NN.parquet`, one row per image.

    `kind`: `normal`, `abnormal`, or the two halves of a counterfactual pair (`pair-normal`,
    `pair-abnormal`, sharing `pair_id`). `layout` is what was asked, `layout_adapted` what the coarse stage
    made of it (both JSON of `anatomy.layout.Layout`). `source_case` gave the layout; a pair's
    reference is its own normal half. `center` is the style asked for. `agreement` is the guide's mean Dice against the
    asked layout. `region` (pairs only) is white where anything may differ.
    An abnormal image has an anomaly and its severity in `severity_unit`, or two; `layout_normal` is the layout before
    the edit. `layout_source`: `varied` (a training case's, moved as one piece) or `statistics` (new anatomy: sizes
    and places are drawn, `source_case` gave the outlines). `age_derived`: the age was computed from a size.
    """

    image_id = dy.String(primary_key=True, min_length=16)
    image = _picture()
    coarse = _picture()
    kind = dy.Enum(["normal", "abnormal", "pair-normal", "pair-abnormal"], nullable=False)
    pair_id = dy.String(nullable=True)
    region = _picture(nullable=True)
    plane = dy.String(nullable=False)
    center = dy.String(nullable=False)
    age_weeks = dy.Float64(nullable=True)
    age_derived = dy.Bool(nullable=False)
    anomaly = dy.String(nullable=True)
    severity = dy.Float64(nullable=True)
    severity_unit = dy.String(nullable=True)
    second_anomaly = dy.String(nullable=True)
    second_severity = dy.Float64(nullable=True)
    second_severity_unit = dy.String(nullable=True)
    layout_source = dy.Enum(["varied", "statistics", "none"], nullable=False)
    layout_normal = dy.String(nullable=True)
    layout = dy.String(nullable=False)
    layout_adapted = dy.String(nullable=False)
    source_case = dy.String(nullable=False)
    seed = dy.Int64(nullable=False)
    evaluations = dy.Int32(nullable=False, min=0)
    agreement = dy.Float64(nullable=True)


class Generated(dy.Schema):
    """What `fetalflex generate` made: `manifest.parquet`, one row per image, in the order of their numbers.

    `file` and `layout_file` are relative to the folder. `layout` is what was asked, `layout_adapted` what the coarse
    stage made of it; `layout_source` where the normal layout comes from. `anomalies`: JSON list of [name, severity,
    unit]. `reference`: hash of the image outside of whose `region` nothing was generated, null without one. `model`:
    SHA-256 of the weights. Stages: network evaluations of the coarse and of the fine stage, and the guide's agreement
    with the asked layout after each.
    """

    image_id = dy.String(primary_key=True, min_length=1)
    file = dy.String(nullable=False)
    layout_file = dy.String(nullable=True)
    plane = dy.String(nullable=False)
    center = dy.String(nullable=True)
    age_weeks = dy.Float64(nullable=True)
    anomalies = dy.String(nullable=False)
    reference = dy.String(nullable=True)
    region_file = dy.String(nullable=True)
    seed = dy.Int64(nullable=False)
    layout_source = dy.String(nullable=False)
    layout = dy.String(nullable=False)
    layout_adapted = dy.String(nullable=False)
    model = dy.String(nullable=False, min_length=64)
    coarse_evaluations = dy.Int32(nullable=False, min=1)
    fine_evaluations = dy.Int32(nullable=False, min=0)
    coarse_agreement = dy.Float64(nullable=True)
    agreement = dy.Float64(nullable=True)


class GeneratedImages(dy.Schema):
    """The images themselves, where `fetalflex generate` writes Parquet: `images-NNN.parquet`."""

    image_id = dy.String(primary_key=True, min_length=1)
    image = _picture()
    plane = dy.String(nullable=False)
    anomalies = dy.String(nullable=False)
    layout = dy.String(nullable=False)


class Scores(dy.Schema):
    """Per-image scores: `reports/scores.parquet`, one row per synthetic image.

    `asked`: structures that the layout asks for; `dice`: null where none of them was, or the judge knows none.
    `measured_severity`: that of the anomaly on the judge's segmentation, null where it could not be measured.
    `nearest_case`: the training image whose detail is most alike (`nearest_correlation`, -1 to 1; `near_copy` where it
    is a copy); `nearest_distance`: cosine distance of aligned features to the nearest training image.
    `realism`: of the first encoder's features, above 1 where the image lies among real ones (`fidelity.neighbours`).
    `implausible`: failed mechanical checks, `implausible_because` each with its reason.
    """

    image_id = dy.String(primary_key=True, min_length=16)
    kind = dy.String(nullable=False)
    plane = dy.String(nullable=False)
    center = dy.String(nullable=False)
    asked = dy.Int32(nullable=False, min=0)
    dice = dy.Float64(nullable=True)
    anomaly = dy.String(nullable=True)
    measured_severity = dy.Float64(nullable=True)
    second_anomaly = dy.String(nullable=True)
    second_measured_severity = dy.Float64(nullable=True)
    realism = dy.Float64(nullable=True)
    nearest_case = dy.String(nullable=False)
    nearest_distance = dy.Float64(nullable=False)
    nearest_correlation = dy.Float64(nullable=False)
    near_copy = dy.Bool(nullable=False)
    implausible = dy.Int32(nullable=False, min=0)
    implausible_because = dy.String(nullable=True)


def write_shard(path: Path, rows: Iterable[dict[str, Any]] | pl.DataFrame, schema: type[dy.Schema]) -> None:
    """Validate rows against `schema` and write them as one Parquet shard, sorted by primary key.

    Columns of a data frame that the schema does not have are left out; in a dict they are an error.
    Raises: ArtifactError naming the rule that a row breaks.
    """
    columns = schema.create_empty().schema
    try:
        table = rows if isinstance(rows, pl.DataFrame) else _to_table(list(rows), columns)
        # Without a primary key the order of all values decides, or equal content would not be equal bytes.
        keys = schema.primary_key() or [name for name, kind in columns.items() if not isinstance(kind, pl.Struct)]
        valid = schema.validate(table.select(list(columns)).sort(keys), cast=True)
    except (dy.exc.ValidationError, dy.exc.SchemaError, pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path.name}: rows break the schema {schema.__name__}: {_one_line(error)}") from error
    arrow = valid.to_arrow().cast(_arrow_schema(columns))
    with atomic(path) as partial:
        pq.write_table(arrow, partial, row_group_size=ROW_GROUP, compression="zstd")


def _to_table(rows: list[dict[str, Any]], columns: pl.Schema) -> pl.DataFrame:
    unknown = sorted({key for row in rows for key in row} - set(columns))
    if unknown:
        raise ValueError(f"unknown columns {', '.join(unknown)}; expected {', '.join(columns)}")
    # Polars makes silent nulls of what is no struct, and of words outside an enum: these enter as text instead.
    pictures = [name for name, kind in columns.items() if isinstance(kind, pl.Struct)]
    for name, value in ((name, row.get(name)) for row in rows for name in pictures):
        if value is not None and (not isinstance(value, dict) or set(value) != {"bytes", "path"}):
            raise ValueError(f"{name} is {type(value).__name__}; expected a struct of bytes and path")
    plain = {name: pl.String() if isinstance(kind, pl.Enum) else kind for name, kind in columns.items()}
    return pl.DataFrame(rows, schema=plain)


def _arrow_schema(columns: pl.Schema) -> pa.Schema:
    """Return the Arrow schema with the `huggingface` metadata.

    `datasets` takes a column for what the metadata say only where its Arrow type is exactly the feature's own (`string`
    and `binary`, not polars' large ones), and refuses dictionaries, so an enum is stored as text.
    """
    fields = [
        (name, _PICTURE if isinstance(kind, pl.Struct) else pa.type_for_alias(_word(kind)))
        for name, kind in columns.items()
    ]
    features = {
        name: {"_type": "Image"} if isinstance(kind, pl.Struct) else {"_type": "Value", "dtype": _word(kind)}
        for name, kind in columns.items()
    }
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}}, sort_keys=True)})


def _word(kind: pl.DataType) -> str:
    return _VALUES.get(type(kind), "string")


def read_shards(paths: Iterable[Path], schema: type[dy.Schema]) -> pl.DataFrame:
    """Read and validate shards into one table (empty where there are no paths).

    Raises: ArtifactError naming the file that is damaged or of another schema, or the schema where two shards hold
    the same key.
    """
    tables: list[pl.DataFrame] = []
    for path in sorted(paths):
        try:
            tables.append(schema.validate(pl.read_parquet(path), cast=True))
        except (dy.exc.ValidationError, dy.exc.SchemaError, pl.exceptions.PolarsError, OSError) as error:
            raise ArtifactError(
                f"{path}: not a shard of {schema.__name__} ({_one_line(error)}); re-run the stage that writes it"
            ) from error
    if not tables:
        return schema.create_empty()
    table = pl.concat(tables)
    keys = schema.primary_key()
    if keys and table.select(keys).is_duplicated().any():
        raise ArtifactError(
            f"{len(tables)} shards of {schema.__name__}: rows with the same {', '.join(keys)} stand in more than one; "
            f"re-run the stage that writes them"
        )
    return table


def _one_line(error: Exception) -> str:
    """Return a library's message without polars' query plan, on one line."""
    return " ".join(str(error).split("Resolved plan")[0].split())
