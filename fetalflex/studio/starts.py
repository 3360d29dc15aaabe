"""What a sitting starts from: a sampled layout, an uploaded image or layout, a case of the dataset."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from fetalflex import rng
from fetalflex.anatomy.layout import Layout
from fetalflex.errors import LayoutError, SourceError, UsageError
from fetalflex.studio.desk import Desk
from fetalflex.synthesis.edit import predict_layout, settle_plane
from fetalflex.synthesis.models import Model
from fetalflex.synthesis.picture import Picture, read_picture
from fetalflex.synthesis.requests import Draw

LARGEST_IMAGE, LARGEST_LAYOUT, LARGEST_SIDE = 64 * 2**20, 4 * 2**20, 4096
_ONE_AT_A_TIME = threading.Semaphore(1)  # a sandbox takes a processor and half a gigabyte


@dataclass(frozen=True)
class CaseEntry:
    """A case of the dataset by its keyed id."""

    id: str
    plane: str
    center: str


class Cases(Protocol):
    """The dataset's cases, de-identified."""

    def listed(self) -> Sequence[CaseEntry]: ...  # noqa: D102
    def open(self, case_id: str) -> tuple[Picture, Layout]: ...  # noqa: D102


@dataclass(frozen=True)
class Wish:
    """What a user chose before the start: None is not asked."""

    plane: str | None = None
    center: str | None = None
    age_weeks: float | None = None


def check_wish(wish: Wish, model: Model) -> None:
    """Raises: UsageError for a center that the model does not know, or an age that no pregnancy has."""
    if wish.center is not None and wish.center not in model.generator.vocabulary[1:]:
        raise UsageError(f"{wish.center!r} is no style of this model")
    if wish.age_weeks is not None and not 4 <= wish.age_weeks <= 45:
        raise UsageError(f"age {wish.age_weeks:g} weeks; expected 4 to 45")


def sampled(draw: Draw, wish: Wish, seed: int) -> Desk:
    """Return the desk of a normal layout that is drawn. Raises: LayoutError, UsageError."""
    if wish.plane is None:
        raise UsageError("choose a plane first")
    layout, source = draw(wish.plane, rng.generator(seed, "studio", wish.plane))
    layout = replace(layout, center=wish.center)
    if wish.age_weeks is not None:
        layout = replace(layout, age_weeks=wish.age_weeks, age_derived=False)
    return Desk.of(layout, f"layout from {source}, seed {seed}")


def uploaded(model: Model, data: bytes, wish: Wish) -> Desk:
    """Return the desk of an image that was sent: PNG, JPEG or DICOM, the latter read in a sandbox.

    Its layout is predicted; its plane, too, where none is chosen. The bytes are never on a disk.
    Raises: SourceError for what is no usable image, LayoutError where its plane or its anatomy is not clear.
    """
    with in_memory(data, LARGEST_IMAGE) as path, _ONE_AT_A_TIME:
        picture = read_picture(path, "the file")
    if max(picture.pixels.shape) > LARGEST_SIDE:
        raise SourceError(f"the file has more than {LARGEST_SIDE} pixels on a side; send a smaller one")
    plane = settle_plane(model, picture, wish.plane)
    layout = predict_layout(model, picture, plane.plane)
    layout = replace(layout, center=wish.center, age_weeks=wish.age_weeks)
    sure = "" if plane.confidence is None or plane.given else f", plane read with confidence {plane.confidence:.2f}"
    return Desk.of(layout, f"opened image{sure}", picture, private=True)


def uploaded_layout(data: bytes, model: Model) -> Desk:
    """Return the desk of a layout file. Raises: LayoutError where it is none."""
    if len(data) > LARGEST_LAYOUT:
        raise LayoutError(f"the layout is larger than {LARGEST_LAYOUT >> 20} MiB")
    try:
        layout = Layout.from_json(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise LayoutError("the file is no text; expected a layout as JSON (docs/layouts.md)") from error
    if layout.center not in model.generator.vocabulary[1:]:
        layout = replace(layout, center=None)
    return Desk.of(layout, "opened layout")


def from_case(cases: Cases, case_id: str, wish: Wish) -> Desk:
    """Return the desk of a case of the dataset, with its own layout."""
    picture, layout = cases.open(case_id)
    if wish.age_weeks is not None and layout.age_weeks is None:
        layout = replace(layout, age_weeks=wish.age_weeks)
    return Desk.of(layout, f"case {case_id[:8]}", picture, private=True)


@contextmanager
def in_memory(data: bytes, largest: int) -> Iterator[Path]:
    """Yield a path to these bytes that other processes of this user can open, and that is on no disk.

    It is gone with the block, and with this process however that ends. Raises: SourceError where they are too many.
    """
    if len(data) > largest:
        raise SourceError(f"the file is larger than {largest >> 20} MiB")
    number = os.memfd_create("upload")
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(number, view) :]
        yield Path(f"/proc/{os.getpid()}/fd/{number}")
    finally:
        os.close(number)
