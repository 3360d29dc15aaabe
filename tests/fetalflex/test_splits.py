import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflex.errors import TooFewCasesError
from fetalflex.splits import PRECEDENCE, assign_groups, own_group
from fetalflex.tables import Frames

# (center, patient, pixels): few values, so that images are shared often.
ROWS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 8), st.integers(0, 30)), min_size=1, max_size=30
)  # fmt: skip


def frames(rows: list[tuple[str, int, int]]) -> pl.DataFrame:
    return pl.DataFrame(
        [(f"case-{i:020}", c, f"patient-{p:020}", f"{x:064}") for i, (c, p, x) in enumerate(rows)],
        schema=["case_id", "center", "patient", "pixels"],
        orient="row",
    )


def groups(rows: list[tuple[str, int, int]]) -> dict[tuple[str, str], str]:
    table = assign_groups(frames(rows), 7, 0.2, 0.25)
    return {(c, p): g for c, p, g in table.select("center", "patient", "group").iter_rows()}


def linked(rows: list[tuple[str, int, int]]) -> list[set[tuple[str, int]]]:
    """Return clusters by the plainest means: merge sets until nothing changes."""
    clusters = [{(c, p)} for c, p, _ in rows]
    images = [{(c, p) for c, p, x in rows if x == y} for y in {x for _, _, x in rows}]
    for image in images:
        touched = [c for c in clusters if c & image]
        clusters = [c for c in clusters if not c & image] + [set().union(*touched)]
    return clusters


@given(ROWS)
@settings(deadline=None)
def test_a_cluster_is_in_one_group_the_strictest_of_its_members(rows: list[tuple[str, int, int]]) -> None:
    found = groups(rows)
    for cluster in linked(rows):
        members = [(c, f"patient-{p:020}") for c, p in cluster]
        own = {own_group(c, p, 7, 0.2, 0.25) for c, p in members}
        assert {found[m] for m in members} == {next(g for g in PRECEDENCE if g in own)}


@given(ROWS, ROWS)
@settings(deadline=None)
def test_more_data_moves_nobody_but_those_it_ties(
    rows: list[tuple[str, int, int]], more: list[tuple[str, int, int]]
) -> None:
    before, after = groups(rows), groups(rows + more)
    tied = {m for cluster in linked(rows + more) if cluster not in linked(rows) for m in cluster}
    for (center, patient), group in before.items():
        if (center, int(patient.removeprefix("patient-"))) not in tied:
            assert after[center, patient] == group


def test_moves_are_recorded_with_the_group_that_the_hash_gave() -> None:
    own = {p: own_group("a", f"patient-{p:020}", 7, 0.2, 0.25) for p in range(60)}
    test, train = (next(p for p, g in own.items() if g == name) for name in ("test", "train"))
    table = assign_groups(frames([("a", test, 1), ("a", train, 1), ("a", train, 2)]), 7, 0.2, 0.25)
    rows = {r["case_id"][-1]: (r["group"], r["moved_from"]) for r in table.iter_rows(named=True)}
    assert rows == {"0": ("test", None), "1": ("test", "train"), "2": ("test", "train")}
    assert table["cluster"].n_unique() == 1


def test_the_same_patient_number_in_two_centers_is_two_patients() -> None:
    table = assign_groups(frames([(c, p, 100 * (c == "b") + p) for c in "ab" for p in range(40)]), 7, 0.2, 0.25)
    assert table["cluster"].n_unique() == 80
    one, other = (table.filter(pl.col("center") == c)["group"].to_list() for c in "ab")
    assert one != other


def test_fractions_are_reached() -> None:
    table = assign_groups(frames([("a", p, p) for p in range(4000)]), 1, 0.2, 0.25)
    shares = dict(table["group"].value_counts(normalize=True).iter_rows())
    assert shares["test"] == pytest.approx(0.2, abs=0.03)
    assert shares["judge"] == pytest.approx(0.25, abs=0.03)
    assert table["moved_from"].null_count() == 4000


def test_no_frames_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(TooFewCasesError, match="ingest a center"):
        assign_groups(Frames.create_empty(), 1, 0.2, 0.2)
