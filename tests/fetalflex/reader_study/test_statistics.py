"""Figures against hand-made answers, and against libraries that are trusted."""

from math import isnan
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta
from sklearn.metrics import cohen_kappa_score

from fetalflex.reader_study import power, statistics


def row(reader: str, image: int, truth: str, verdict: str, realism: int = 3, again: bool = False) -> dict[str, Any]:
    return {"reader": reader, "image": image, "truth": truth, "verdict": verdict, "realism": realism, "again": again}


def study(right: float, readers: int = 2, images: int = 40, seed: int = 0) -> list[dict[str, Any]]:
    random, kinds = np.random.default_rng(seed), ("real", "synthetic")
    rows = []
    for r in range(readers):
        for i in range(images):
            truth = kinds[i % 2]
            verdict = truth if random.random() < right else kinds[1 - i % 2]
            rows.append(row(f"R{r}", i, truth, verdict, 1 + int(random.integers(5))))
    return rows


@given(st.integers(0, 60), st.integers(1, 60))
def test_a_share_has_the_exact_interval_of_clopper_and_pearson(hits: int, n: int) -> None:
    hits = min(hits, n)
    found = statistics.share(hits, n)
    low = 0.0 if hits == 0 else beta.ppf(0.025, hits, n - hits + 1)
    high = 1.0 if hits == n else beta.ppf(0.975, hits + 1, n - hits)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


def test_nothing_read_is_nothing_known() -> None:
    assert isnan(statistics.share(0, 0).value)
    assert isnan(statistics.accuracy([]).value)
    assert all(isnan(v) for v in statistics.accuracy_interval([]))


def test_repeats_do_not_count_for_the_accuracy() -> None:
    rows = [row("R0", 0, "real", "real"), row("R0", 0, "real", "synthetic", again=True)]
    assert (statistics.accuracy(rows).hits, statistics.accuracy(rows).n) == (1, 1)


def test_guessing_is_within_the_interval_and_seeing_is_not() -> None:
    low, high = statistics.accuracy_interval(study(0.5, 3, 80))
    assert low < 0.5 < high
    low, high = statistics.accuracy_interval(study(0.9, 3, 80))
    assert low > 0.5
    exact = statistics.accuracy(study(0.9, 3, 80))
    assert high - low > 0.8 * (exact.high - exact.low)


def test_the_roc_is_one_where_realism_tells_all_and_half_where_it_tells_nothing() -> None:
    told = [row("R0", i, t, t, 5 if t == "real" else 1) for i, t in enumerate(["real", "synthetic"] * 5)]
    assert statistics.roc(told)[2] == 1.0
    flat = [{**r, "realism": 3} for r in told]
    assert statistics.roc(flat)[2] == 0.5
    assert statistics.likert(told) == {"real": [0, 0, 0, 0, 5], "synthetic": [5, 0, 0, 0, 0]}
    assert statistics.likert_p(told) < 0.01
    assert isnan(statistics.roc(told[:1])[2])


@given(st.integers(0, 200))
def test_cohens_kappa_is_that_of_scikit_learn(seed: int) -> None:
    rows = study(0.6, 2, 60, seed)
    one, other = ([r for r in rows if r["reader"] == name] for name in ("R0", "R1"))
    for what, weights in (("verdict", None), ("realism", "linear")):
        (found,) = statistics.cohen(rows, what).values()
        expected = cohen_kappa_score([r[what] for r in one], [r[what] for r in other], weights=weights)
        assert found.kappa == pytest.approx(expected)
        assert -1 <= found.low < found.kappa < found.high <= 1


def test_fleiss_kappa_of_the_published_example() -> None:
    # Source: Fleiss, Psychol Bull 1971;76:378-82 gives 0.430 for its own data; this is the table of ten subjects and
    # fourteen raters that textbooks compute: kappa 0.210.
    table = [[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
             [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]]  # fmt: skip
    rows = []
    for image, counts in enumerate(table):
        levels = [level for level, count in enumerate(counts, 1) for _ in range(count)]
        rows += [row(f"R{r:02d}", image, "real", "real", level) for r, level in enumerate(levels)]
    assert statistics.fleiss(rows, "realism").kappa == pytest.approx(0.210, abs=0.0005)


def test_who_says_the_same_twice_agrees_with_themselves() -> None:
    rows = [row("R0", i, "real", v) for i, v in enumerate(["real", "synthetic"] * 4)]
    same = rows + [{**r, "again": True} for r in rows]
    assert statistics.intra(same, "verdict")["R0"].kappa == pytest.approx(1)
    turned = rows + [
        {**r, "again": True, "verdict": "real" if r["verdict"] == "synthetic" else "synthetic"} for r in rows
    ]
    found = statistics.intra(turned, "verdict")["R0"]
    assert (found.kappa, found.raw, found.n) == (pytest.approx(-1), 0.0, 8)
    assert isnan(statistics.intra(rows, "verdict")["R0"].kappa)


def test_one_answer_for_all_gives_no_kappa_but_no_error() -> None:
    rows = [row(f"R{r}", i, "real", "real") for r in range(2) for i in range(4)]
    (found,) = statistics.cohen(rows, "verdict").values()
    assert (isnan(found.kappa), found.raw) == (True, 1.0)


def test_power_grows_with_answers_and_the_published_size_is_met() -> None:
    assert power.exact_power(0.5, 100) <= 0.05
    assert power.exact_power(0.7, 60) > power.exact_power(0.7, 30)
    # The normal approximation gives 194 for 60 % against 50 % (80 % power, two-sided 5 %); the exact test a few more.
    assert 194 <= power.answers_needed(0.6) <= 215
    assert power.answers_needed(0.5) == 0
    for n in range(power.answers_needed(0.7), power.answers_needed(0.7) + 30):
        assert power.exact_power(0.7, n) >= power.POWER


def test_readers_who_see_alike_are_worth_less_than_as_many_answers() -> None:
    alone, alike, apart = (power.images_needed(0.6, r, c).images for r, c in ((1, 0.0), (5, 1.0), (5, 0.0)))
    assert alike == alone
    assert apart == pytest.approx(alone / 5, abs=1)
    same = [row(r, i, "real", "real" if i % 3 else "synthetic") for r in ("A", "B", "C") for i in range(12)]
    assert power.correlation(same) == pytest.approx(1)
    assert abs(power.correlation(study(0.6, 4, 400))) < 0.1
    assert isnan(power.correlation(study(0.6, 1)))
