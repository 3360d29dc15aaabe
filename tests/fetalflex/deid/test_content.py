import numpy as np
import pytest
from pydicom import Dataset, Sequence

from fetalflex.deid.codes import clean_codes, code_item
from fetalflex.deid.content import clean_acquisition_context, clean_content
from fetalflex.errors import QuarantineError, Reason


def remap(uid: str) -> str:
    return f"2.25.{len(uid)}"


def item(kind: str, concept: tuple[str, str] | None = None, **values: object) -> Dataset:
    made = Dataset()
    made.ValueType, made.RelationshipType = kind, "CONTAINS"
    if concept:
        made.ConceptNameCodeSequence = [code_item(*concept, "Mrs Jones' finding")]
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def test_codes_keep_their_published_meaning_and_local_ones_go() -> None:
    kept = clean_codes(
        [
            code_item("121071", "DCM", "Jones"),
            code_item("4711", "99LOCAL", "Jones"),
            code_item("T-D1100", "SRT", "Jones"),
        ]
    )
    assert (kept[0].CodeValue, kept[0].CodeMeaning) == ("121071", "Finding")
    assert not any("Jones" in str(k) for k in kept)
    assert {k.CodeValue for k in kept} <= {"121071", "T-D1100"}


def test_texts_names_and_dates_go_and_measurements_stay() -> None:
    cm = Dataset()
    cm.NumericValue, cm.MeasurementUnitsCodeSequence = "4.2", [code_item("cm", "UCUM", "Jones")]
    content = [
        item("TEXT", ("121106", "DCM"), TextValue="Jones"),
        item("PNAME", ("121008", "DCM"), PersonName="Jones^Ann"),
        item("DATE", ("121025", "DCM"), Date="19870101"),
        item("NUM", ("121207", "DCM"), MeasuredValueSequence=[cm]),
        item("CODE", ("121071", "DCM"), ConceptCodeSequence=[code_item("69536005", "SCT", "Jones")]),
        item("TEXT", ("112039", "DCM"), TextValue="head 1"),
        item("TEXT", ("112039", "DCM"), TextValue="Jones 1"),
        item("UIDREF", ("112040", "DCM"), UID="1.2.3"),
        item("SCOORD", ("111030", "DCM"), GraphicType="POLYLINE", GraphicData=[0.0, 0.0, 4.0, 2.0]),
        item("SCOORD", ("111030", "DCM"), GraphicType="POLYLINE", GraphicData=[0.0, float("nan")]),
    ]
    kept = clean_content(content, remap)
    assert [k.ValueType for k in kept] == ["NUM", "CODE", "TEXT", "UIDREF", "SCOORD"]
    assert kept[3].UID == "2.25.5"
    assert "Jones" not in str(kept)


def test_what_stands_below_a_dropped_item_goes_with_it() -> None:
    below = item("CODE", ("121071", "DCM"), ConceptCodeSequence=[code_item("69536005", "SCT", "Head")])
    content = [item("CONTAINER", ("4711", "99LOCAL"), ContentSequence=[below]),
               item("CONTAINER", ("126010", "DCM"), ContentSequence=[below])]  # fmt: skip
    kept = clean_content(content, remap)
    assert len(kept) == 1
    assert kept[0].ContentSequence[0].ConceptCodeSequence[0].CodeMeaning.startswith("Head")


def test_content_nested_beyond_all_sense_is_refused() -> None:
    inner = item("CONTAINER")
    for _ in range(20):
        inner = item("CONTAINER", ContentSequence=[inner])
    with pytest.raises(QuarantineError) as caught:
        clean_content([inner], remap)
    assert caught.value.reason is Reason.NESTED_TOO_DEEP


def test_the_acquisition_context_keeps_the_gestational_age_alone() -> None:
    age = Dataset()
    age.ValueType, age.NumericValue = "NUMERIC", "141"
    age.ConceptNameCodeSequence = [code_item("18185-9", "LN", "GA of Mrs Jones")]
    age.MeasurementUnitsCodeSequence = [code_item("d", "UCUM", "day")]
    note = Dataset()
    note.ValueType, note.TextValue = "TEXT", "Jones"
    data = Dataset()
    data.AcquisitionContextSequence = Sequence([note, age])
    (kept,) = clean_acquisition_context(data)
    assert np.isclose(float(kept.NumericValue), 141 / 7, atol=0.01)
    assert "Jones" not in str(kept)
    age.NumericValue = "900"
    assert not clean_acquisition_context(data)
