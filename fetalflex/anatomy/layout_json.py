"""Layouts as JSON: the form published in `layout.schema.json` and explained in docs/layouts.md.

Version 2. Texts of the first form (no `version`) stay readable: they hold boxes and masks only.
"""

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fetalflex.anatomy.layout import Layout, LayoutObject, Mask, mask_box
from fetalflex.anatomy.shapes import Box, Ellipse, Polyline, Shape
from fetalflex.artifacts import decode_png, encode_png
from fetalflex.errors import ArtifactError, LayoutError

VERSION = 2
_KEYS = {"version", "plane", "unit", "extent", "objects", "absent", "center", "age_weeks", "age_derived"}
_OBJECT_KEYS = {"structure", "box", "edited", "mask", "ellipse", "polyline"}


@cache
def layout_schema() -> dict[str, Any]:
    """Return the published JSON Schema (2020-12) of this form."""
    value: dict[str, Any] = json.loads(Path(__file__).with_name("layout.schema.json").read_text(encoding="utf-8"))
    return value


def layout_to_json(layout: Layout) -> str:
    """Return the layout as JSON that gives the same layout back, number for number; masks as base64 PNG."""
    value: dict[str, Any] = {
        "version": VERSION,
        "plane": layout.plane,
        "unit": layout.unit,
        "extent": float(layout.extent),
        "objects": [_write_object(o) for o in layout.objects],
        "absent": sorted(layout.absent),
        "center": layout.center,
        "age_weeks": None if layout.age_weeks is None else float(layout.age_weeks),
        "age_derived": bool(layout.age_derived),
    }
    return json.dumps(value, sort_keys=True)


def layout_from_json(text: str) -> Layout:
    """Read a layout. Raises: LayoutError where the JSON is none of ours."""
    try:
        value = json.loads(text)
        _check_keys(value, _KEYS, "the layout")
        if value.get("version", VERSION) not in (1, VERSION):
            raise LayoutError(f"layout JSON has version {value['version']!r}; expected 1 or {VERSION}")
        extent = float(value["extent"])
        objects = tuple(_read_object(o, extent) for o in _list(value["objects"], "objects"))
        center, age = value.get("center"), value.get("age_weeks")
        return Layout(
            value["plane"],
            value["unit"],
            extent,
            objects,
            None if center is None else str(center),
            None if age is None else float(age),
            _flag(value, "age_derived"),
            frozenset(_list(value.get("absent", []), "absent")),
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, ArtifactError) as error:
        raise LayoutError(f"layout JSON cannot be read: {error!r}; see docs/layouts.md for its form") from error


def _check_keys(value: dict[str, Any], known: set[str], what: str) -> None:
    unknown = sorted(set(value.keys()) - known)
    if unknown:
        expected = ", ".join(sorted(known))
        raise LayoutError(f"layout JSON: {what} has the unknown key {unknown[0]!r}; expected {expected}")


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{name} is no list")
    return value


def _flag(value: dict[str, Any], key: str) -> bool:
    """Return a truth value that may be left out: bool('false') would be true, so nothing else is taken for one."""
    found = value.get(key, False)
    if not isinstance(found, bool):
        raise TypeError(f"{key} is no truth value")
    return found


def _write_object(item: LayoutObject) -> dict[str, Any]:
    value: dict[str, Any] = {
        "structure": item.structure,
        "box": [float(v) for v in item.box],
        "edited": bool(item.edited),
    }
    if isinstance(item.shape, Ellipse):
        value["ellipse"] = {
            "centre": [float(v) for v in item.shape.centre],
            "semi_axes": [float(v) for v in item.shape.semi_axes],
            "angle_deg": float(item.shape.angle_deg),
        }
    if isinstance(item.shape, Polyline):
        value["polyline"] = {
            "points": [[float(x), float(y)] for x, y in item.shape.points],
            "closed": item.shape.closed,
            "width": float(item.shape.width),
        }
    if item.mask is not None:
        value["mask"] = base64.b64encode(encode_png(item.mask.astype(np.uint8) * 255)).decode()
    return value


def _read_object(value: dict[str, Any], extent: float) -> LayoutObject:
    _check_keys(value, _OBJECT_KEYS, "an object")
    mask = read_mask(value["mask"]) if "mask" in value else None
    shape = _read_shape(value)
    return LayoutObject(value["structure"], _read_box(value, mask, shape, extent), mask, _flag(value, "edited"), shape)


def _read_box(value: dict[str, Any], mask: Mask | None, shape: Shape | None, extent: float) -> Box:
    if "box" in value:
        x0, y0, x1, y1 = (float(v) for v in value["box"])
        return (x0, y0, x1, y1)
    found = mask_box(mask, extent) if mask is not None else None if shape is None else shape.bounds()
    if found is None:
        raise LayoutError(
            f"layout JSON: the object {value['structure']!r} has neither box nor shape; expected box, ellipse, "
            "polyline, or a mask that is not empty"
        )
    return found


def _read_shape(value: dict[str, Any]) -> Shape | None:
    if "ellipse" in value and "polyline" in value:
        raise LayoutError(f"layout JSON: the object {value['structure']!r} has ellipse and polyline; expected one")
    if "ellipse" in value:
        item = value["ellipse"]
        (x, y), (a, b) = item["centre"], item["semi_axes"]
        return Ellipse((float(x), float(y)), (float(a), float(b)), float(item.get("angle_deg", 0.0)))
    if "polyline" in value:
        item = value["polyline"]
        points = tuple((float(x), float(y)) for x, y in item["points"])
        closed = item.get("closed", True)
        if not isinstance(closed, bool):
            raise TypeError("closed is no truth value")
        return Polyline(points, closed, float(item.get("width", 0.0)))
    return None


def read_mask(text: str) -> Mask:
    """Return the mask in base64 of a PNG: white is inside."""
    return decode_png(base64.b64decode(text, validate=True)) > 127
