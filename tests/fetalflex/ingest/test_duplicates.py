"""Equal and nearly equal frames are found across patients and centers; the hash search forgets no pair."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fetalflex.dicom.region import Calibration, choose_crop, fit_geometry
from fetalflex.errors import QuarantineError
from fetalflex.ingest.duplicates import close_pairs, find_duplicates
from fetalflex.sources.public import (
    Picture,
    read_african_planes,
    read_barcelona_planes,
    read_barcelona_transventricular,
)
from fetalflex.splits import assign_groups
from fetalflex.tables import Duplicates
from tests.fetalflex.ingest.pictures import frames, head, jpeg, resized


def _pairs(table: pl.DataFrame) -> set[tuple[int, int, str]]:
    return {(int(a[-4:]), int(b[-4:]), kind) for a, b, kind in table.select("case_a", "case_b", "kind").iter_rows()}


def test_exact_and_near_copies_are_listed_and_strangers_are_not() -> None:
    rows = [
        ("north", "1", head(1)), ("north", "2", head(1)), ("south", "9", jpeg(resized(head(1), 200, 200))),
        ("north", "3", head(2)), ("south", "3", head(3)),
    ]  # fmt: skip
    found = find_duplicates(frames(rows))
    assert _pairs(found) == {(0, 1, "exact"), (0, 2, "near")}
    assert found["same_patient"].to_list() == [False, False]
    assert found["same_center"].to_list() == [True, False]
    assert found["correlation"].min() > 0.75


def test_copies_within_one_patient_are_listed_too() -> None:
    found = find_duplicates(frames([("north", "1", head(1)), ("north", "1", head(1)), ("north", "1", jpeg(head(1)))]))
    assert _pairs(found) == {(0, 1, "exact"), (0, 2, "near")}
    assert found["same_patient"].all()


def test_equal_patient_numbers_of_two_centers_are_two_patients() -> None:
    (row,) = find_duplicates(frames([("north", "1", head(1)), ("south", "1", head(1))])).iter_rows(named=True)
    assert not row["same_patient"]


def test_many_copies_give_one_pair_each() -> None:
    assert len(find_duplicates(frames([("north", str(i), head(1)) for i in range(12)]))) == 11


def test_no_frames_and_one_frame_have_no_pairs() -> None:
    assert find_duplicates(frames([("north", "1", head(1))])).equals(Duplicates.create_empty())
    assert find_duplicates(frames([("north", "1", head(1))]).clear()).is_empty()


def test_a_near_copy_ties_two_patients_into_one_group() -> None:
    rows = [("north", str(i), head(i)) for i in range(8)]
    table = frames([*rows, ("south", "77", jpeg(resized(head(3), 120, 160)))])
    splits = assign_groups(table, 7, 0.2, 0.25, find_duplicates(table))
    tied = splits.filter(pl.col("tied_by") == "near")
    assert set(tied["patient"]) == {f"patient-{'3':>16}", f"patient-{'77':>16}"}
    assert tied["cluster"].n_unique() == 1
    assert tied["group"].n_unique() == 1
    assert splits["tied_by"].null_count() == 7


@given(
    st.lists(st.integers(0, 2**64 - 1), max_size=20),
    st.lists(st.tuples(st.integers(0, 19), st.lists(st.integers(0, 63), max_size=14)), max_size=10),
    st.integers(0, 16),
)
def test_hash_search_forgets_no_pair(base: list[int], changed: list[tuple[int, list[int]]], distance: int) -> None:
    values = list(base)
    for at, bits in changed:
        if at < len(base):
            values.append(base[at] ^ sum(1 << b for b in set(bits)))
    hashes = np.array(values, np.uint64)
    found = {(int(a), int(b), int(d)) for part in close_pairs(hashes, distance) for a, b, d in zip(*part, strict=True)}
    plain = [(i, j, (values[i] ^ values[j]).bit_count()) for j in range(len(values)) for i in range(j)]
    assert found == {pair for pair in plain if pair[2] <= distance}


def test_hash_search_crosses_its_blocks() -> None:
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**63, 9000).astype(np.uint64)
    hashes[8999], hashes[1500] = hashes[3] ^ np.uint64(5), hashes[1499]
    found = {(int(a), int(b)) for part in close_pairs(hashes, 3) for a, b, _ in zip(*part, strict=True)}
    assert found == {(3, 8999), (1499, 1500)}


def _frame(item: Picture) -> np.ndarray | None:
    with Image.open(item.path) as opened:
        grey = np.asarray(opened.convert("L"))
    try:
        crop = choose_crop(Calibration(None, item.spacing_mm), grey)
    except QuarantineError:
        return None
    return fit_geometry(crop, item.spacing_mm, 256).image(grey)


def _rows(center: str, pictures: list[Picture]) -> list[tuple[str, str, np.ndarray]]:
    found = [(center, item.patient, _frame(item)) for item in pictures]
    return [(c, patient, pixels) for c, patient, pixels in found if pixels is not None]


def test_images_that_both_barcelona_sets_hold_are_found(real_data: Path) -> None:
    first = {p.path.stem: p for p in read_barcelona_transventricular(real_data / "barcelona_transventricular")}
    second = {p.path.stem: p for p in read_barcelona_planes(real_data / "barcelona_planes")}
    shared = sorted(first.keys() & second.keys())
    if not shared:
        pytest.skip("the two Barcelona sets here share no image")
    rows = _rows("a", [first[n] for n in shared]) + _rows("b", [second[n] for n in shared])
    found = _pairs(find_duplicates(frames(rows)))
    assert {(i, i + len(shared)) for i in range(len(shared))} <= {(a, b) for a, b, _ in found}
    # Whatever else is tied is one person's: another frame of the same patient.
    patients = [patient for _, patient, _ in rows]
    assert all(patients[a] == patients[b] for a, b, _ in found)


def test_african_patients_that_are_one_person_are_tied(real_data: Path) -> None:
    pictures = [p for p in read_african_planes(real_data / "african_planes") if p.group in ("algeria", "egypt")]
    found = find_duplicates(frames(_rows("africa", pictures)))
    across = found.filter(~pl.col("same_patient"))
    # Byte-identical images under two numbers, and neighbours of one sweep under two numbers (seen by eye).
    assert (across["kind"] == "exact").sum() == 27
    assert (across["kind"] == "near").sum() >= 6
