"""Pascal VOC annotations -> layouts: boxes, turned boxes and outlines, in the dialects that tools write.

Understood: `bndbox` (VOC), `robndbox` (cx, cy, w, h, angle in radians), `segm/box` and `polygon/pt` with an attribute
`rotation=` in degrees about the shape's middle (LabelMe as Datumaro writes it); angles turn x towards y.
Coordinates are taken as they stand, as edges: VOC's own tools counted pixels from 1, most others do not.
"""

import math
import re
from pathlib import Path
from xml.etree import ElementTree as Xml

from fetalflex.anatomy.interchange import Picture, Reading, read_bytes
from fetalflex.anatomy.layout import Layout, LayoutObject
from fetalflex.anatomy.shapes import Point
from fetalflex.errors import AnnotationError

Points = list[Point]
_CORNERS = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))


def layout_from_voc(path: Path, reading: Reading) -> Layout:
    """Return the layout of one file: upright boxes as boxes, all else as closed polylines.

    Raises: AnnotationError where the file is no VOC or has an unknown label, LayoutError where an object does not
    fit the plane or its picture.
    """
    text = read_bytes(path, "Pascal VOC annotations")
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise AnnotationError(f"{path.name}: declares entities; expected plain annotations")
    try:
        root = Xml.fromstring(text)  # noqa: S314 - no entities, see above
        rows, columns = _size(root)
        picture = Picture(rows, columns, reading.spacing_mm)
        objects = []
        for number, item in enumerate(root.iter("object")):
            where = f"{path.name}: object {number}"
            name = reading.structure(item.findtext("name", "").strip(), where)
            if name and item.findtext("deleted", "0").strip() != "1":
                objects.append(_object(item, name, picture, where))
    except (Xml.ParseError, ValueError, RecursionError) as error:
        raise AnnotationError(f"{path.name}: no Pascal VOC annotations ({error})") from error
    return picture.layout(objects, reading)


def _size(root: Xml.Element) -> tuple[int, int]:
    for parent, rows, columns in (("size", "height", "width"), ("imagesize", "nrows", "ncols")):
        found = root.find(parent)
        if found is not None:
            return int(found.findtext(rows, "")), int(found.findtext(columns, ""))
    raise ValueError("it states no size of its picture")


def _object(item: Xml.Element, name: str, picture: Picture, where: str) -> LayoutObject:
    turned = item.find("robndbox")
    if turned is not None:
        cx, cy, w, h, angle = (float(turned.findtext(k, "")) for k in ("cx", "cy", "w", "h", "angle"))
        return picture.outline(name, turn([(cx + u * w, cy + v * h) for u, v in _CORNERS], angle))
    points = [(float(p.findtext("x", "")), float(p.findtext("y", ""))) for p in item.iter("pt") if len(p)]
    found = item.find("bndbox")
    box = item.find("segm/box") if found is None else found
    rotation = re.search(r"rotation=(-?[\d.]+)", item.findtext("attributes", ""))
    angle = math.radians(float(rotation[1])) if rotation else 0.0
    if len(points) >= 3:
        return picture.outline(name, turn(points, angle))
    if box is None:
        raise AnnotationError(f"{where}: neither box nor outline; expected one of them")
    x0, y0, x1, y1 = (float(box.findtext(k, "")) for k in ("xmin", "ymin", "xmax", "ymax"))
    if angle:
        return picture.outline(name, turn([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], angle))
    return picture.box(name, (x0, y0, x1, y1))


def turn(points: Points, angle: float) -> Points:
    """Return points turned about the middle of their bounds, by radians from x towards y."""
    if not angle:
        return points
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    cx, cy = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    c, s = math.cos(angle), math.sin(angle)
    return [(cx + (x - cx) * c - (y - cy) * s, cy + (x - cx) * s + (y - cy) * c) for x, y in points]
