"""A perfect judge measures what was asked; a blind one finds nothing; one that heals finds the normal."""

from dataclasses import replace

import numpy as np
import pytest

from fetalflex.anatomy.anomalies import ANOMALIES, apply_anomaly
from fetalflex.anatomy.editing import setting_of
from fetalflex.anatomy.layout import Layout, rasterize
from fetalflex.anatomy.ontology import STRUCTURE_NAMES, plane
from fetalflex.quality.anomalies import (
    Reading,
    change_seen,
    grey_ratio,
    is_known,
    measure_seen,
    place_of,
    seen_layout,
    summarise_anomalies,
)
from fetalflex.rng import generator
from tests.fetalflex.anatomy.test_catalogue import SIZE, phantom_layout, pixel_in_unit

NAN = float("nan")
KNOWN = ("head", "csp", "lateral-ventricle", "abdomen", "stomach", "femur", "thorax", "heart", "spine")


def drawn(layout: Layout) -> np.ndarray:
    return rasterize(layout, SIZE).maps > 0.5


@pytest.mark.parametrize(
    ("name", "plane_name", "severity"),
    [
        ("ventriculomegaly", "transventricular", 14.0), ("microcephaly", "transventricular", -4.0),
        ("dolichocephaly", "transventricular", 68.0), ("absent-csp", "transventricular", 1.0),
        ("absent-stomach", "abdomen", 1.0), ("cardiomegaly", "four-chamber", 0.65), ("short-femur", "femur", -4.0),
    ],
)  # fmt: skip
def test_what_a_perfect_judge_sees_measures_as_asked_and_the_normal_does_not(
    name: str, plane_name: str, severity: float
) -> None:
    normal = phantom_layout(plane_name, 24.0, 1)
    abnormal = apply_anomaly(normal, name, severity, generator(1))
    setting = setting_of(normal)
    seen = measure_seen(name, seen_layout(drawn(abnormal), normal, KNOWN), setting)
    assert seen == pytest.approx(severity, abs=1.5 * pixel_in_unit(normal, name) + 1e-9)
    assert ANOMALIES[name].is_reached(seen)
    healed = measure_seen(name, seen_layout(drawn(normal), normal, KNOWN), setting)
    assert not ANOMALIES[name].is_reached(healed)


def test_specks_of_the_judge_are_no_anatomy_but_a_second_ventricle_is() -> None:
    normal = phantom_layout("transventricular", 24.0, 1)
    clean = drawn(normal)
    speckled = clean.copy()
    k = STRUCTURE_NAMES.index("head")
    speckled[k, 1:3, 1:3] = True
    speckled[k, 60:62, 60:62] = False
    made = seen_layout(speckled, normal, KNOWN).find("head")
    assert made is not None
    assert made.mask is not None
    assert np.array_equal(made.mask, clean[k])
    two = np.zeros_like(clean)
    two[STRUCTURE_NAMES.index("csp"), 10:20, 10:20] = True
    two[STRUCTURE_NAMES.index("csp"), 40:48, 40:48] = True
    both = seen_layout(two, normal, KNOWN).find("csp")
    assert both is not None
    assert both.mask is not None
    assert both.mask.sum() == 164


def test_a_blind_judge_measures_nothing_and_finds_an_absence() -> None:
    normal = phantom_layout("transventricular", 24.0, 1)
    seen = seen_layout(np.zeros_like(drawn(normal)), normal, KNOWN)
    assert not seen.objects
    assert seen.absent == set(KNOWN) & set(plane("transventricular").structures)
    assert np.isnan(measure_seen("ventriculomegaly", seen, setting_of(normal)))
    assert measure_seen("absent-csp", seen, setting_of(normal)) == 1.0


def test_a_judge_must_know_all_that_an_anomaly_is_measured_by() -> None:
    assert is_known("ventriculomegaly", KNOWN)
    assert not is_known("ventriculomegaly", ("lateral-ventricle",))
    assert not is_known("double-bubble", KNOWN)
    assert not is_known("single-ventricle", KNOWN)


def test_the_change_is_where_it_was_asked_or_outside_of_it() -> None:
    normal = phantom_layout("transventricular", 24.0, 1)
    before = drawn(normal)
    after = drawn(apply_anomaly(normal, "ventriculomegaly", 14.0, generator(1)))
    asked = before != after
    region = asked.any(axis=0)
    assert change_seen(before, after, asked, region) == (1.0, 0.0)
    nothing = change_seen(before, before, asked, region)
    assert nothing[0] == 0.0
    assert np.isnan(nothing[1])
    elsewhere = before.copy()
    elsewhere[0, :4, :4] ^= True
    assert change_seen(before, elsewhere, asked, region) == (0.0, 1.0)


def test_the_place_is_the_asked_structure_or_where_it_was_and_fluid_is_dark_there() -> None:
    normal = phantom_layout("abdomen", 24.0, 1)
    gone = apply_anomaly(normal, "absent-stomach", 1.0, generator(1))
    was = drawn(normal)[STRUCTURE_NAMES.index("stomach")]
    assert np.array_equal(place_of("absent-stomach", normal, gone, SIZE), was)
    two = apply_anomaly(normal, "double-bubble", 8.0, generator(1))
    bubble = place_of("double-bubble", normal, two, SIZE)
    assert np.array_equal(bubble, drawn(two)[STRUCTURE_NAMES.index("duodenum")])
    pixels = np.full((SIZE, SIZE), 100, np.uint8)
    assert grey_ratio(pixels, bubble) == 1.0
    pixels[bubble] = 20
    assert grey_ratio(pixels, bubble) == pytest.approx(0.2)
    assert np.isnan(grey_ratio(pixels, np.zeros((SIZE, SIZE), bool)))


def test_figures_say_how_far_off_and_how_often_found_beside_the_judges_own() -> None:
    wide = [Reading("ventriculomegaly", f"c{i}", 14.0, 13.0 + (i % 3), 0.8, 0.1, 0.5, 0.9) for i in range(9)]
    missed = [Reading("ventriculomegaly", "c9", 14.0, NAN), Reading("ventriculomegaly", "c8", 12.0, 8.0)]
    normal = [Reading("ventriculomegaly", f"n{i}", NAN, 11.0 if i == 0 else 7.0) for i in range(10)]
    real = [Reading("ventriculomegaly", f"r{i}", 7.0, 7.5) for i in range(4)]
    (row,) = summarise_anomalies(wide + missed + normal, real, KNOWN, bootstrap=50, seed=1)
    assert (row.n, row.n_measured, row.n_normal, row.n_real, row.n_pairs) == (11, 10, 10, 4, 9)
    assert row.error.low <= row.error.value <= row.error.high
    assert row.error.value == 0.0
    assert row.absolute_error == 1.0
    assert row.found.value == pytest.approx(9 / 11)
    assert row.found_in_normal == pytest.approx(0.1)
    assert (row.judge_error, row.judge_absolute_error) == (0.5, 0.5)
    assert (row.change.value, row.outside) == (pytest.approx(0.8), pytest.approx(0.1))
    assert (row.grey, row.grey_before) == (0.5, 0.9)
    assert len(row.points) == 11
    assert (14.0, None) in row.points


def test_what_the_judge_does_not_know_is_not_counted_as_missed() -> None:
    readings = [Reading("double-bubble", "c", 10.0, NAN)]
    (row,) = summarise_anomalies(readings, [], KNOWN, bootstrap=10, seed=1)
    assert not row.known
    assert row.n == 1
    assert np.isnan(row.found.value)
    assert np.isnan(row.found_in_normal)


def test_rows_come_in_the_catalogues_order_for_what_was_asked_alone() -> None:
    readings = [Reading(name, "c", 1.0, 1.0) for name in ("short-femur", "absent-csp")]
    readings.append(replace(readings[0], anomaly="cardiomegaly", asked=NAN))
    rows = summarise_anomalies(readings, [], KNOWN, bootstrap=10, seed=1)
    assert [r.anomaly for r in rows] == ["absent-csp", "short-femur"]
