import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflex.anatomy import biometry
from fetalflex.errors import LayoutError

MEASURES = ("hc", "bpd", "ofd", "ac", "fl")
weeks = st.floats(14, 40)


# Hadlock et al., Radiology 1984;152:497-501: age in weeks from one measure in cm. Another population, other devices;
# its biparietal diameter ends at the inner edge of the far bone, so ours looks up to 1.8 weeks older.
HADLOCK = {
    "bpd": lambda cm: 9.54 + 1.482 * cm + 0.1676 * cm**2,
    "hc": lambda cm: 8.96 + 0.540 * cm + 0.0003 * cm**3,
    "ac": lambda cm: 8.14 + 0.753 * cm + 0.0036 * cm**2,
    "fl": lambda cm: 10.35 + 2.460 * cm + 0.170 * cm**2,
}


@pytest.mark.parametrize("measure", HADLOCK)
@pytest.mark.parametrize("age", [16, 20, 24, 28, 32])
def test_agrees_with_an_independent_dating_formula(measure: str, age: int) -> None:
    assert HADLOCK[measure](biometry.mean_mm(measure, age) / 10) == pytest.approx(age, abs=1.8)


@pytest.mark.parametrize(
    ("measure", "age", "mean"),
    [("hc", 20, 172.5), ("hc", 30, 278.4), ("bpd", 20, 48.4), ("ac", 20, 147.7), ("ac", 30, 253.8), ("fl", 30, 55.5)],
)
def test_gives_the_published_means(measure: str, age: int, mean: float) -> None:
    assert biometry.mean_mm(measure, age) == pytest.approx(mean, abs=0.2)


@given(weeks, st.floats(0.01, 1), st.sampled_from(MEASURES))
def test_grows_with_age(age: float, step: float, measure: str) -> None:
    later = min(40.0, age + step)
    assert biometry.mean_mm(measure, later) >= biometry.mean_mm(measure, age)
    assert biometry.sd_mm(measure, age) > 0


@given(st.floats(14, 39.9), st.sampled_from(MEASURES))
def test_age_of_a_mean_is_that_age(age: float, measure: str) -> None:
    assert biometry.age_from(measure, biometry.mean_mm(measure, age)) == pytest.approx(age, abs=1e-6)


@given(weeks, st.floats(0.5, 99.5), st.sampled_from(MEASURES))
def test_percentile_round_trip(age: float, percentile: float, measure: str) -> None:
    value = biometry.percentile_mm(measure, age, percentile)
    assert biometry.percentile_of(measure, age, value) == pytest.approx(percentile, abs=1e-6)


def test_derived_sizes_fit_their_parents() -> None:
    for age in range(14, 41):
        bpd = biometry.biparietal_diameter_mm(age)
        assert biometry.csp_width_mm(age) < bpd / 5
        assert bpd / 2.5 > biometry.ATRIAL_WIDTH_MM
        assert biometry.stomach_length_mm(age) < biometry.abdominal_circumference_mm(age) / 3.14 / 2
        assert biometry.thoracic_circumference_mm(age) < biometry.abdominal_circumference_mm(age)
        assert biometry.femur_length_mm(age) < biometry.head_circumference_mm(age) / 3


def test_refuses_what_the_formulae_do_not_cover() -> None:
    with pytest.raises(LayoutError, match="expected 14 to 40"):
        biometry.head_circumference_mm(12)
    with pytest.raises(LayoutError, match="no mean between"):
        biometry.age_from("hc", 20.0)
    with pytest.raises(LayoutError, match="percentile"):
        biometry.percentile_mm("hc", 20, 100)
