import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from fetalflex.errors import TooFewCasesError
from fetalflex.quality.fidelity.looks import LOOKS
from fetalflex.quality.fidelity.measure import Plan, by_anomaly, figure, measure_all
from fetalflex.quality.fidelity.measures import PAIRS, drawn_wasserstein, of_encoder, of_lpips
from fetalflex.quality.fidelity.neighbours import neighbours
from fetalflex.quality.fidelity.sides import Side, standardised
from fetalflex.quality.gate_metrics import is_release_metric
from fetalflex.rng import generator

PLAN = Plan(("own", "texture"), 60, 1)


def side(n, shift=0.0, prefix="p", seed=1, per_patient=2, d=12):
    rng = generator(seed, prefix, n)
    features = {e: rng.normal(shift, 1, (n, d)).astype(np.float32) for e in ("own", "texture")}
    return Side(
        rng.integers(0, 256, (n, 48, 48)).astype(np.uint8), features, rng.normal(shift, 1, (n, len(LOOKS))),
        np.array([f"{prefix}{i // per_patient}" for i in range(n)]), np.array(["femur", "abdomen"] * n)[:n],
        np.array((["harbour"] * 3 + ["meadow"]) * n)[:n],
    )  # fmt: skip


REAL, OTHER = side(80), side(160, prefix="q")
SAME, MOVED = side(60, prefix="s", per_patient=1), side(60, 1.0, prefix="m", per_patient=1)
FOUND = {name: list(measure_all(REAL, made, OTHER, PLAN)) for name, made in (("same", SAME), ("moved", MOVED))}


def overall(name):
    return {f.name: f for f in FOUND[name] if not (f.plane or f.center)}


@pytest.mark.parametrize("name", ["kid", "frechet", "cmmd", "kid.texture", "look.contrast"])
def test_same_distribution_reaches_the_floor_and_another_does_not(name):
    same, moved = overall("same")[name], overall("moved")[name]
    assert same.low <= same.floor * 1.3 + 0.01
    assert moved.low > moved.floor
    for found in (same, moved):
        assert found.low <= found.value <= found.high
        assert (found.n, found.n_real, found.n_synthetic, found.floor_n) == (60, 80, 60, 60)


def test_measures_of_one_pair_of_sides_share_their_work(monkeypatch):
    calls = []
    whole = neighbours

    def counted(*sides):
        calls.append(sides)
        return whole(*sides)

    monkeypatch.setattr("fetalflex.quality.fidelity.measures.neighbours", counted)
    for measure in of_encoder("own"):
        if measure.name in ("precision", "recall", "density", "coverage"):
            figure(measure, (REAL, SAME, OTHER), PLAN)
    assert len(calls) == 11  # the pair itself, and the floor's ten draws


class Stacked:
    """Stands in for LPIPS: how far apart the mean grey levels of a pair's two images are."""

    name = "lpips-own"

    def __init__(self):
        self.asked = []

    def features(self, images):
        self.asked.append(len(images))
        upper, lower = np.split(images.astype(np.float32), 2, axis=1)
        return abs(upper.mean((1, 2)) - lower.mean((1, 2)))[:, None]


def test_lpips_is_measured_on_pairs_of_one_plane_with_interval_and_floor():
    encoder = Stacked()
    made = replace(SAME, images=(SAME.images // 2 + 60 * (SAME.planes == "femur")[:, None, None]).astype(np.uint8))
    found = figure(of_lpips(encoder), (REAL, made, OTHER), PLAN)
    assert is_release_metric(found.name)
    assert found.low <= found.value <= found.high < 5  # two planes are 60 grey levels apart
    assert (found.encoder, found.n, found.floor_n) == ("lpips-own", 60, 60)
    assert 0 < found.floor < 5
    assert encoder.asked == [PAIRS, PAIRS]  # the figure's own, and one draw for the floor
    assert "lpips_diversity" not in overall("same")  # no backbone was named there


@pytest.mark.parametrize("name", ["precision", "recall", "coverage"])
def test_shares_fall_where_the_distribution_moves(name):
    same, moved = overall("same")[name], overall("moved")[name]
    assert moved.high < same.low
    assert abs(same.value - same.floor) < 0.15


def test_every_figure_is_known_to_the_gate_and_has_an_interval():
    for found in FOUND["same"]:
        assert is_release_metric(found.name)
        if np.isfinite(found.value):
            assert found.low <= found.value <= found.high, found


def test_planes_and_centers_stand_alone_and_small_ones_are_said_to_be_unmeasured():
    kids = {(f.plane, f.center): f for f in FOUND["same"] if f.name == "kid"}
    assert set(kids) == {(None, None), ("femur", None), ("abdomen", None), (None, "harbour"), (None, "meadow")}
    assert kids[("femur", None)].n == 30
    few = {
        f.center: f for f in measure_all(REAL, SAME.take(np.arange(24)), OTHER, PLAN) if f.name == "kid" and f.center
    }
    assert np.isnan(few["meadow"].value)
    assert few["meadow"].warning == "not measured: 20 real and 6 synthetic images are too few"


def test_anomalies_are_held_against_real_images_of_their_plane():
    anomalies = np.where(SAME.planes == "femur", "short-femur", "")
    (found,) = by_anomaly(REAL, SAME, anomalies, OTHER, PLAN)
    assert (found.anomaly, found.n_real, found.n_synthetic) == ("short-femur", 40, 30)


def test_small_samples_and_missing_floors_are_said():
    kid = of_encoder("own")[0]
    found = figure(kid, (REAL, SAME, None), PLAN)
    assert "small sample: 80 real images of 40 patients, 60 synthetic" in found.warning
    assert "no floor" in found.warning
    assert found.floor is None
    few = figure(kid, (REAL, SAME, OTHER.take(np.arange(30))), PLAN)
    assert few.floor_n == 30
    assert "floor measured at 30 images" in few.warning


def test_patients_of_the_reference_never_enter_the_floor():
    found = next(iter(measure_all(REAL, SAME, REAL, PLAN)))
    assert found.floor is None


def test_more_images_than_a_measure_takes_are_a_subsample_and_said_so():
    kid = of_encoder("own")[0].__class__("kid", "own", of_encoder("own")[0].of, most=20)
    found = figure(kid, (REAL, SAME, OTHER), PLAN)
    assert (found.n_real, found.n_synthetic) == (20, 20)


def test_measuring_depends_on_nothing_but_the_seed():
    again = list(measure_all(REAL, SAME, OTHER, PLAN))
    assert [repr(f) for f in again] == [repr(f) for f in FOUND["same"]]


def test_one_image_is_too_few():
    with pytest.raises(TooFewCasesError, match="1 synthetic images"):
        list(measure_all(REAL, SAME.take(np.array([0])), None, PLAN))


def test_standardised_features_have_the_unit_of_real_ones_and_drop_what_never_varies():
    rng = generator(4)
    real = np.concatenate([rng.normal(3, 5, (50, 2)), np.full((50, 1), 7.0)], 1)
    one, other = standardised(real, real + 5)
    assert one.std(0)[:2] == pytest.approx([1, 1], rel=1e-5)
    assert not other[:, 2].any()
    assert (other - one)[:, :2].mean(0) == pytest.approx(5 / real.std(0)[:2], rel=1e-4)


def test_two_hundred_draws_of_inception_features_take_seconds():
    wide = [side(200, prefix=p, d=2048) for p in "abc"]
    plan = Plan(("own",), 200, 1)
    started = time.process_time()
    for measure in of_encoder("own"):
        figure(measure, (wide[0], wide[1], wide[2]), plan)
    assert time.process_time() - started < 20


def test_drawn_distances_of_distributions_are_those_of_scipy():
    rng = generator(3, "wasserstein")
    x, y = rng.normal(size=30).round(1), rng.normal(1, 2, size=20).round(1)
    u, v = rng.integers(0, 3, (100, 30)), rng.integers(0, 3, (100, 20))
    u[7] = 0
    found = drawn_wasserstein(x, y, u, v)
    expected = [wasserstein_distance(x, y, a, b) if a.sum() else np.nan for a, b in zip(u, v, strict=True)]
    assert np.allclose(found, expected, equal_nan=True)
