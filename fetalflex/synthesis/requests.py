"""From what a user asks to the layouts of single images: drawn, edited, and where a reference may change."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fetalflex import rng
from fetalflex.anatomy.anomalies import apply_anomalies, check_possible, find_anomaly
from fetalflex.anatomy.layout import Layout, Mask, changed_region, rasterize, to_avoid
from fetalflex.anatomy.ontology import plane
from fetalflex.anatomy.statistics import FRAMES, fit_statistics, sample_layout
from fetalflex.anatomy.variation import vary_layout
from fetalflex.diffusion.two_stage import SampleRequest
from fetalflex.errors import AnomalyError, LayoutError, TooFewCasesError, UsageError
from fetalflex.synthesis.shapes import sample_shapes

Pixels = npt.NDArray[np.uint8]
Draw = Callable[[str, np.random.Generator], tuple[Layout, str]]
"""(plane, generator) -> a normal layout, and where it comes from."""
_TRIES = 20


@dataclass(frozen=True, eq=False)
class Ask:
    """What is asked of all images of a call. `anomalies`: (name, severity); `layout`: this one, none drawn.

    `unlike`: a layout that the image must not follow: what that one has and the asked one calls absent is asked as
    absent with emphasis; else the layout before the anomalies.
    """

    plane: str
    anomalies: tuple[tuple[str, float], ...] = ()
    layout: Layout | None = None
    layout_source: str = "given"
    center: str | None = None
    age_weeks: float | None = None
    boxes_only: bool = False
    reference: Pixels | None = None
    unlike: Layout | None = None


@dataclass(frozen=True, eq=False)
class Planned:
    """One image: its request, its normal layout, and where that comes from."""

    number: int
    request: SampleRequest
    normal: Layout
    source: str


def check_ask(ask: Ask, vocabulary: Sequence[str]) -> None:
    """Raises: LayoutError, AnomalyError or UsageError for what no layout could fulfil, before anything is drawn."""
    plane(ask.plane)
    if ask.layout is not None and ask.layout.plane != ask.plane:
        raise LayoutError(f"the layout is of plane {ask.layout.plane!r}; expected the asked plane {ask.plane!r}")
    if ask.center is not None and ask.center not in vocabulary[1:]:
        known = ", ".join(vocabulary[1:]) or "none"
        raise UsageError(f"center {ask.center!r} is no style of this model; expected one of {known}")
    if ask.age_weeks is not None and not 4 <= ask.age_weeks <= 45:
        raise UsageError(f"age {ask.age_weeks:g} weeks; expected 4 to 45")
    for name, severity in ask.anomalies:
        check_possible(find_anomaly(name), ask.plane, severity)


def drawn_from_shapes(shapes: Mapping[str, object]) -> Draw:
    """Return what draws layouts from the statistics that travel with a model."""
    return lambda name, random: (sample_shapes(shapes, name, random), "model statistics")


def drawn_from_training(layouts: Sequence[tuple[str, Layout]], amount: float, age_weeks: float | None) -> Draw:
    """Return what draws new layouts near training layouts, each (case id, layout).

    With an age, from `anatomy.statistics` where it knows the plane and the layouts state mm and age; else training
    layouts are varied by `amount`, as the stage `sample` does.
    """

    def draw(name: str, random: np.random.Generator) -> tuple[Layout, str]:
        of_plane = [(case, layout) for case, layout in layouts if layout.plane == name]
        # Cases that nobody outlined ask for the plane alone: they count only where there are no others.
        fitting = [(case, layout) for case, layout in of_plane if layout.objects] or of_plane
        if not fitting:
            known = ", ".join(sorted({layout.plane for _, layout in layouts})) or "none"
            raise LayoutError(f"no training case shows plane {name!r}; expected one of {known}, or give --layout")
        if age_weeks is not None and name in FRAMES:
            try:
                return sample_layout(fit_statistics([layout for _, layout in fitting]), age_weeks, random), "statistics"
            except TooFewCasesError:
                pass  # they state no mm or no age: their layouts can still be varied
        case, layout = fitting[int(random.integers(len(fitting)))]
        return vary_layout(layout, amount, random), f"varied case {case}"

    return draw


def plan_images(ask: Ask, count: int, seed: int, size: int, draw: Draw | None) -> list[Planned]:
    """Return the plan of `count` images on a canvas of `size`: a pure function of ask, seed and what is drawn from.

    Raises: LayoutError, AnomalyError; UsageError where layouts are neither given nor can be drawn.
    """
    return [_plan_one(ask, number, seed, size, draw) for number in range(count)]


def _plan_one(ask: Ask, number: int, seed: int, size: int, draw: Draw | None) -> Planned:
    random = rng.generator(seed, "generate", ask.plane, number)
    image_id = f"{number:06d}"
    if ask.layout is not None:
        normal = _dressed(ask.layout, ask)
        return Planned(number, _request(image_id, normal, ask, size, random), normal, ask.layout_source)
    if draw is None:
        raise UsageError("no layouts to draw from; give one with --layout, or stand in a workspace, or name a --model")
    failure: AnomalyError | None = None
    for _ in range(_TRIES):
        layout, source = draw(ask.plane, random)
        normal = _dressed(layout, ask)
        try:
            return Planned(number, _request(image_id, normal, ask, size, random), normal, source)
        except AnomalyError as error:  # this anatomy has no room for it, or lacks a structure: another is drawn
            failure = error
    raise AnomalyError(
        f"image {number}: the anomaly could be made in none of {_TRIES} drawn layouts ({failure}); "
        f"give one with --layout"
    )


def _dressed(layout: Layout, ask: Ask) -> Layout:
    """Return a layout with the asked style and age; a drawn layout brings no style of its own."""
    changes: dict[str, object] = {"center": ask.center if ask.center or layout is not ask.layout else layout.center}
    if ask.age_weeks is not None:
        changes |= {"age_weeks": ask.age_weeks, "age_derived": False}
    return replace(layout, **changes)  # type: ignore[arg-type]


def _request(image_id: str, normal: Layout, ask: Ask, size: int, random: np.random.Generator) -> SampleRequest:
    asked = apply_anomalies(normal, ask.anomalies, random) if ask.anomalies else normal
    region = None
    if ask.reference is not None:
        region = changed_region(normal, asked, size) if ask.anomalies else covered(asked, size)
        if not region.any():
            raise LayoutError("the layout asks for nothing that the reference could show; expected at least one object")
    shown = asked.boxes_only() if ask.boxes_only else asked
    return SampleRequest(image_id, shown, ask.reference, region, to_avoid(ask.unlike or normal, asked))


def covered(layout: Layout, size: int) -> Mask:
    """Return bool [size, size]: where a layout's objects lie."""
    result: Mask = np.asarray((rasterize(layout, size).maps > 0).any(axis=0))
    return result
