"""The plan of a dataset: which layout, which anomaly, which severity for every image. Nothing is generated here.

A pure function of training cases, parameters and seed: image `number` of a kind has the same id, and with equal cases
and parameters the same layout, whatever else is made. More images leave the former ones as they were.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fetalflex import rng
from fetalflex.anatomy.anomalies import ANOMALIES, apply_anomalies
from fetalflex.anatomy.editing import with_age
from fetalflex.anatomy.layout import Layout, changed_region
from fetalflex.anatomy.ontology import PLANE_NAMES
from fetalflex.anatomy.statistics import FRAMES, PlaneStatistics, draw_layout, fit_statistics, tells_size
from fetalflex.anatomy.variation import vary_layout
from fetalflex.dataset import Cases
from fetalflex.errors import AnomalyError, LayoutError, TooFewCasesError
from fetalflex.params import Params
from fetalflex.params_plan import Anomaly, severity_range

Changes = tuple[tuple[str, float], ...]
VARIED, STATISTICS, BARE = "varied", "statistics", "none"
_TRIES, _STATISTICS_TRIES = 20, 4
_DIGITS = {"mm": 1, "%": 1, "SD": 2, "ratio": 3, "degrees": 0, "present": 0}
_AGE_SPREAD_WEEKS = 1.0


@dataclass(frozen=True, eq=False)
class Planned:
    """One image to make, or a pair of them. `changes`: the anomalies (name, severity) between normal and abnormal.

    `source_case` gave the outlines; `layout_source`: `varied` where it gave their sizes and places too, `statistics`
    where these are new, `none` where it gave plane, center and age alone.
    """

    image_id: str
    kind: str
    normal: Layout
    source_case: str
    layout_source: str
    abnormal: Layout | None = None
    changes: Changes = ()

    @property
    def layout(self) -> Layout:
        """What is asked of the (first) image: of a pair the normal layout."""
        return self.abnormal if self.kind == "abnormal" and self.abnormal is not None else self.normal


def plan_images(cases: Cases, params: Params) -> Iterator[Planned]:
    """Yield what is to be made, from layouts of the given training cases only.

    A layout of a test patient would leak into what is measured. Raises: TooFewCasesError naming the anomaly that no
    training case can show.
    """
    pool = _Pool(cases, params)
    sample, seed = params.sample, params.data.seed
    asked = [a for a in sample.anomalies if a.weight > 0] if sample.abnormal + sample.pairs else []
    fitting = {entry: pool.showing(entry.names) for entry in asked}
    for kind, count in (("normal", sample.normal), ("abnormal", sample.abnormal), ("pair-normal", sample.pairs)):
        turns = shares([a.weight for a in asked], count) if kind != "normal" else iter([-1] * count)
        for number, turn in enumerate(turns):
            image_id = f"{rng.derive_seed(seed, 'image', kind, number):016x}"
            random = rng.generator(seed, "plan", image_id)
            if turn < 0:
                normal, source, origin = pool.draw(int(random.choice(pool.usable)), (), random)
                yield Planned(image_id, kind, normal, source, origin)
            else:
                yield _abnormal(pool, (image_id, kind), asked[turn], fitting[asked[turn]], random)
    yield from _unannotated(cases, {layout.plane for layout in pool.layouts.values()}, params)


def _unannotated(cases: Cases, annotated: set[str], params: Params) -> Iterator[Planned]:
    """Yield images of the planes without a layout, plane by plane in turn; none where every plane has one."""
    members: dict[str, list[int]] = {}
    for i, plane in enumerate(cases.planes):
        members.setdefault(PLANE_NAMES[int(plane)], []).append(i)
    planes = sorted(members.keys() - annotated)
    for number in range(params.sample.unannotated if planes else 0):
        image_id = f"{rng.derive_seed(params.data.seed, 'image', 'unannotated', number):016x}"
        random = rng.generator(params.data.seed, "plan", image_id)
        position = int(random.choice(members[planes[number % len(planes)]]))
        yield Planned(image_id, "normal", with_age(cases.layout(position)), str(cases.ids[position]), BARE)


def shares(weights: Sequence[float], count: int) -> Iterator[int]:
    """Yield `count` positions in proportion to their weights, at every length: the next goes to the most underserved.

    Source: Sainte-Laguë's method (highest averages, divisors 1, 3, 5, ...).
    """
    given = np.zeros(len(weights))
    for _ in range(count):
        turn = int(np.argmax(np.asarray(weights) / (2 * given + 1)))
        given[turn] += 1
        yield turn


def _abnormal(
    pool: "_Pool", image: tuple[str, str], entry: Anomaly, positions: Sequence[int], random: np.random.Generator
) -> Planned:
    """Draw a layout and severities until the anatomy has room for them: say, a head may be cut by the sector."""
    image_id, kind = image
    for _ in range(_TRIES):
        normal, source, origin = pool.draw(int(random.choice(positions)), entry.names, random)
        changes = tuple((name, _severity(pool.params.sample.anomalies, name, random)) for name in entry.names)
        try:
            abnormal = apply_anomalies(normal, changes, random)
        except AnomalyError:
            continue
        if changed_region(normal, abnormal, pool.cases.size).any():
            return Planned(image_id, kind, normal, source, origin, abnormal, changes)
    raise TooFewCasesError(
        f"sample: {' with '.join(entry.names)} could be made in none of {_TRIES} drawn cases; ask for less severe ones "
        f"in sample.anomalies"
    )


def _severity(asked: Iterable[Anomaly], name: str, random: np.random.Generator) -> float:
    low, high = severity_range(asked, name)
    drawn = round(float(random.uniform(low, high)), _DIGITS[ANOMALIES[name].unit])
    return min(max(drawn, low), high)


def can_show(layout: Layout, names: Iterable[str]) -> bool:
    """Whether a layout is of the right plane and has what the anomalies need."""
    wanted = [ANOMALIES[name] for name in names]
    return all(layout.plane in a.planes and all(layout.find(s) is not None for s in a.needs) for a in wanted)


class _Pool:
    """Training cases as layouts, and what is learnt of them where new anatomy is asked."""

    def __init__(self, cases: Cases, params: Params) -> None:
        self.cases, self.params = cases, params
        self.usable = [i for i in range(len(cases)) if cases.sources[i].any()]
        self.layouts = {i: cases.layout(i) for i in self.usable}
        if not self.usable:
            raise TooFewCasesError(
                f"sample: none of {len(cases)} training cases has a layout; expected some: add annotated cases"
            )

    def showing(self, names: tuple[str, ...]) -> list[int]:
        """Return the cases that can show all of these anomalies. Raises: TooFewCasesError where none can."""
        found = [i for i in self.usable if can_show(self.layouts[i], names)]
        if not found:
            needs = sorted({s for name in names for s in ANOMALIES[name].needs})
            planes = set.intersection(*(set(ANOMALIES[name].planes) for name in names))
            raise TooFewCasesError(
                f"sample: no training case can show {' with '.join(names)}; expected one of plane "
                f"{' or '.join(sorted(planes))} with {', '.join(needs)}: add annotated cases, or take it out of "
                f"sample.anomalies"
            )
        return found

    def draw(self, position: int, names: tuple[str, ...], random: np.random.Generator) -> tuple[Layout, str, str]:
        """Return a normal layout that can show the anomalies, the case that gave its outlines, and how it was made."""
        sample = self.params.sample
        share = {VARIED: 0.0, STATISTICS: 1.0}.get(sample.layouts, sample.statistics_share)
        if random.random() < share:
            made = self._new(position, names, random)
            if made is not None:
                return made
        layout = vary_layout(self.layouts[position], sample.perturbation, random)
        return with_age(layout), str(self.cases.ids[position]), VARIED

    def _new(
        self, position: int, names: tuple[str, ...], random: np.random.Generator
    ) -> tuple[Layout, str, str] | None:
        """Return new anatomy of the case's plane and center, turned and moved but not scaled; None where it fails."""
        base = self.layouts[position]
        if base.plane not in self._models:
            return None
        model, members = self._models[base.plane]
        for _ in range(_STATISTICS_TRIES):
            weeks = self._weeks(model, base, random)
            try:
                layout, number = draw_layout(model, weeks, random)
            except LayoutError:
                continue
            if can_show(layout, names):
                layout = vary_layout(layout, self.params.sample.perturbation, random, scaled=False)
                return with_age(replace(layout, center=base.center)), str(self.cases.ids[members[number]]), STATISTICS
        return None

    @staticmethod
    def _weeks(model: PlaneStatistics, base: Layout, random: np.random.Generator) -> float | None:
        """Return an age like those of the training cases: one of theirs, a week more or less, never beyond them all."""
        if not model.absolute:
            return None
        ages = [t.age_weeks or 0.0 for t in model.templates]
        age = base.age_weeks if tells_size(base) and base.age_weeks is not None else float(random.choice(ages))
        return float(np.clip(age + random.uniform(-_AGE_SPREAD_WEEKS, _AGE_SPREAD_WEEKS), min(ages), max(ages)))

    @cached_property
    def _models(self) -> dict[str, tuple[PlaneStatistics, list[int]]]:
        """Return for each plane with enough cases its model and the cases that it was fitted to, in its order."""
        models: dict[str, tuple[PlaneStatistics, list[int]]] = {}
        least = self.params.sample.statistics_cases
        for plane in sorted({layout.plane for layout in self.layouts.values()} & set(FRAMES)):
            members = [i for i, x in self.layouts.items() if x.plane == plane and x.find(FRAMES[plane][0]) is not None]
            sized = [i for i in members if tells_size(self.layouts[i])]
            chosen = sized if len(sized) >= least else members
            if len(chosen) >= least:
                fitted = fit_statistics([self.layouts[i] for i in chosen], relative=chosen is not sized)
                models[plane] = (fitted, chosen)
        return models


def partner_id(image_id: str) -> str:
    """Return the id of the abnormal half of the pair whose normal half is `image_id`."""
    return f"{rng.derive_seed(0, 'partner', image_id):016x}"
