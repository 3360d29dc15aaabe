import numpy as np

from fetalflex.quality.plots import BINS, MOST_POINTS, feature_map, from_csv, histogram, to_csv


def test_shares_of_each_side_sum_to_one_whatever_lies_far_out():
    rows = histogram([("held_out", np.r_[np.arange(199.0), 1e9, np.nan]), ("synthetic", np.array([100.0, -1e9]))])
    assert len(rows) == BINS
    assert [round(sum(row[side] for row in rows), 9) for side in ("held_out", "synthetic")] == [1.0, 1.0]
    assert rows[0]["synthetic"] == 0.5


def test_a_histogram_of_nothing_is_empty():
    assert histogram([("synthetic", np.array([np.nan]))]) == []


def test_the_map_lays_a_shifted_set_apart_and_does_not_depend_on_the_sign_of_directions():
    random = np.random.default_rng(0)
    real = random.normal(size=(500, 6)) * [5, 2, 1, 1, 1, 1]
    rows = feature_map(real, real + np.eye(6)[0] * 9)
    x = {side: np.mean([r["x"] for r in rows if r["side"] == side]) for side in ("held_out", "synthetic")}
    assert x["synthetic"] - x["held_out"] > 8
    assert len(rows) == 2 * MOST_POINTS


def test_a_table_survives_its_file():
    rows = [{"structure": "head", "dice": 0.5}, {"structure": "csp", "dice": float("nan")}]
    assert from_csv(to_csv(rows)) == [{"structure": "head", "dice": 0.5}, {"structure": "csp", "dice": None}]
