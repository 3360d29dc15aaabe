import doctest
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflex.deid import values
from fetalflex.deid.keys import PseudonymKey
from fetalflex.deid.values import is_standard_uid, keyed_uid, known_words, shift, shift_days, version

KEY = PseudonymKey(b"a secret of the tests only", "the tests")
OTHER = PseudonymKey(b"another secret of the tests", "the tests")


def test_examples_run() -> None:
    assert doctest.testmod(values).failed == 0


@given(st.from_regex(r"[12](\.(0|[1-9]\d{0,8})){2,6}", fullmatch=True))
def test_uids_are_uuids_of_version_8_and_depend_on_the_key_alone(uid: str) -> None:
    made = keyed_uid(KEY, uid)
    assert made == keyed_uid(KEY, uid + "\0")
    assert made != keyed_uid(OTHER, uid)
    number = int(made.removeprefix("2.25."))
    assert (number >> 76 & 0xF, number >> 62 & 3) == (8, 2)
    assert number < 2**128
    assert len(made) <= 64


def test_standard_uids_are_those_of_the_dictionary_and_not_of_its_root() -> None:
    assert is_standard_uid("1.2.840.10008.1.2.1\0")
    assert not is_standard_uid("1.2.840.10008.5551234")


@given(st.text(min_size=1))
def test_every_patient_has_a_shift_of_1_to_3650_days(patient: str) -> None:
    days = shift_days(KEY, patient)
    assert 1 <= days <= 3650
    assert days == shift_days(KEY, patient)


@given(st.dates(date(1900, 1, 1)), st.dates(date(1900, 1, 1)), st.integers(1, 3650))
def test_intervals_survive_the_shift(first: date, second: date, days: int) -> None:
    moved = [shift("DA", f"{d.year:04d}{d.month:02d}{d.day:02d}", days) for d in (first, second)]
    parsed = [date(int(m[:4]), int(m[4:6]), int(m[6:])) for m in moved if m]
    assert parsed[1] - parsed[0] == second - first
    assert (first - parsed[0]).days == days


@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        ("DA", "2024.03.01", "20240229"), ("DA", "20240231", None), ("DA", "2024", None), ("DA", "", None),
        ("DT", "20240101", "20231231"), ("DT", "202401011015+0100", "202312311015"), ("DT", "20240101256060", None),
        ("DT", "202401", None), ("TM", "101500.25", "101500.25"), ("TM", "Jones", None), ("TM", "10:15:00", None),
        ("DA", "00010101", None),
    ],
)  # fmt: skip
def test_shift_moves_what_is_a_date_and_refuses_the_rest(vr: str, value: str, expected: str | None) -> None:
    assert shift(vr, value, 1) == expected


@given(st.text())
def test_nothing_but_vocabulary_leaves_a_descriptor(text: str) -> None:
    assert set(known_words(text).split()) <= values.VOCABULARY


def test_a_profiles_own_words_are_kept_and_the_rest_dropped() -> None:
    assert known_words("DR MEIER: abdo AC, 4711", ["Abdo AC"]) == "Abdo AC"
    assert known_words("Straße Müller, İstanbul, femur", ["FL long"]) == "femur"


def test_versions_lose_their_build_numbers() -> None:
    assert version("EC250.10.1 r0") == ""
    assert version("PMS5.1 Ultrasound 3.1.5") == "3.1"
