import csv
import re
from importlib.resources import files

import pytest
from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c
from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map
from pydicom.datadict import dictionary_VR, tag_for_keyword

from fetalflex.deid.profile import (
    DESCRIPTORS,
    OPTIONS_FILE,
    TABLES,
    Action,
    Kind,
    Profile,
    base_actions,
    option_columns,
    private_or_group,
)
from fetalflex.deid.safe import ANNOTATION_TYPE_1, CODES, EMPTIED, KEPT, REPORT_TYPE_2, TYPE_1, TYPE_2
from fetalflex.params import Deidentify

IMAGE = Profile(Deidentify(), Kind.IMAGE)
ROWS = list(
    csv.DictReader(
        line for line in (files("fetalflex.deid") / OPTIONS_FILE).read_text().splitlines() if not line.startswith("#")
    )
)


def action(keyword: str, profile: Profile = IMAGE, *, nested: bool = False) -> Action:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return profile.action(tag, nested=nested)


def test_base_actions_are_all_of_the_table_of_2026c() -> None:
    listed = {t[0] << 16 | t[1] for t in dicomfields_2026c.ALL_TAGS if len(t) == 2}
    assert set(base_actions()) == listed
    assert len(listed) == 652
    assert sum(len(tags) for tags in TABLES.values()) == len(dicomfields_2026c.ALL_TAGS)


def test_repeating_groups_of_the_table_go_by_rule() -> None:
    masks = [t for t in dicomfields_2026c.ALL_TAGS if len(t) == 4]
    assert len(masks) == 3
    for group, element, *_ in masks:
        assert private_or_group((group | 0x0C) << 16 | element)


def test_the_published_table_of_2024_agrees_with_that_of_2026_wherever_both_name_an_attribute() -> None:
    both = {
        int(r["tag"], 16): r["basic"] for r in ROWS if r["origin"] == "table" and re.fullmatch("[0-9A-F]{8}", r["tag"])
    }
    assert len(both) == 619
    assert {tag: base_actions()[tag] for tag in both} == both


def test_attributes_added_since_2024_are_marked_and_completed_by_the_stated_rule() -> None:
    added = [r for r in ROWS if r["origin"] == "rule"]
    assert len(added) == 33
    assert {int(r["tag"], 16) for r in added} == set(base_actions()) - {
        int(r["tag"], 16) for r in ROWS if r["origin"] == "table" and "x" not in r["tag"] and r["tag"] != "private"
    }
    for row in added:
        dated = "DateTime" in row["keyword"]
        assert (row["modified_dates"], row["full_dates"]) == (("C", "K") if dated else ("", "")), row["keyword"]


def test_every_keyword_of_the_options_is_that_of_the_dictionary() -> None:
    from pydicom.datadict import keyword_for_tag

    for tag, row in option_columns().items():
        assert keyword_for_tag(tag) in ("", row["keyword"])


def test_the_allow_list_holds_nothing_that_the_table_names_and_no_free_text() -> None:
    free = {"LO", "SH", "ST", "LT", "UT", "UC", "PN", "UR", "UN", "AE", "AS", "DA", "DT", "TM"}
    for keyword in KEPT | CODES:
        tag = tag_for_keyword(keyword)
        assert tag is not None, keyword
        assert tag not in base_actions(), keyword
        assert dictionary_VR(tag) not in free or keyword == "StackID", keyword


def test_types_agree_with_the_standards_modules() -> None:
    """Every table attribute that a mandatory module asks for at the top level is in our short lists."""
    iods, modules = get_iod_module_map(), get_module_attribute_map()
    kinds = {"ultrasound-image": 0, "ultrasound-multi-frame-image": 0, "secondary-capture-image": 0}
    kinds |= {"segmentation": 1, "comprehensive-sr": 2}
    for iod, kind in kinds.items():
        for module in (m["key"] for m in iods[iod] if m["usage"] == "M"):
            for attribute in modules[module]:
                tag, type_ = tag_for_keyword(attribute["keyword"]), attribute["type"]
                if attribute["path"] or tag not in base_actions() or type_ not in ("1", "2"):
                    continue
                # Referenced Frame of Reference belongs to an option of the template's items, not to the top.
                if attribute["keyword"] == "ReferencedFrameOfReferenceUID":
                    continue
                one, two = set(TYPE_1), set(TYPE_2)
                one |= ANNOTATION_TYPE_1 if kind else set()
                two |= REPORT_TYPE_2 if kind == 2 else set()
                assert attribute["keyword"] in (one if type_ == "1" else one | two), (iod, attribute)


def test_what_mandatory_modules_ask_for_is_never_dropped() -> None:
    iods, modules = get_iod_module_map(), get_module_attribute_map()
    device = {"Manufacturer", "ManufacturerModelName", "SoftwareVersions"}
    for iod in ("ultrasound-image", "ultrasound-multi-frame-image", "segmentation", "comprehensive-sr"):
        for module in (m["key"] for m in iods[iod] if m["usage"] == "M"):
            for attribute in modules[module]:
                tag = tag_for_keyword(attribute["keyword"])
                # Content items have types of their own, one at a time; `content` builds them anew.
                if module == "sr-document-content" or attribute["path"] or tag in base_actions():
                    continue
                if attribute["type"] not in ("1", "2"):
                    continue
                assert attribute["keyword"] in KEPT | CODES | EMPTIED | device, (iod, module, attribute)


@pytest.mark.parametrize(
    ("keyword", "expected"),
    [
        ("PatientName", Action.EMPTY), ("PatientID", Action.KEYED), ("PatientBirthDate", Action.EMPTY),
        ("PatientAge", Action.REMOVE), ("OperatorsName", Action.REMOVE), ("InstitutionName", Action.REMOVE),
        ("SOPInstanceUID", Action.REMAP), ("SOPClassUID", Action.KEEP), ("StudyDate", Action.SHIFT),
        ("StudyDescription", Action.WORDS), ("PatientComments", Action.REMOVE), ("Rows", Action.KEEP),
        ("SequenceOfUltrasoundRegions", Action.RECURSE), ("AcquisitionContextSequence", Action.CONTENT),
        ("SourceImageSequence", Action.REMOVE), ("TransducerData", Action.REMOVE), ("IconImageSequence", Action.REMOVE),
        ("DeviceSerialNumber", Action.KEYED), ("StationName", Action.REMOVE), ("ContrastBolusAgent", Action.EMPTY),
    ],
)  # fmt: skip
def test_actions_of_an_image(keyword: str, expected: Action) -> None:
    assert action(keyword) == expected


def test_annotations_keep_their_references_and_what_they_must_have() -> None:
    strict = Deidentify(dates="remove", descriptors="remove", device="remove")
    segmentation = Profile(strict, Kind.SEGMENTATION)
    assert action("SourceImageSequence", segmentation, nested=True) == Action.RECURSE
    assert action("ContentDate", segmentation) == Action.DUMMY
    assert action("DeviceSerialNumber", segmentation) == Action.DUMMY
    assert action("ContentDate", Profile(strict, Kind.IMAGE)) == Action.EMPTY
    assert action("SeriesDate", Profile(strict, Kind.IMAGE)) == Action.REMOVE
    assert action("ReferencedPerformedProcedureStepSequence", Profile(strict, Kind.REPORT)) == Action.EMPTY


def test_without_options_every_attribute_of_the_table_gets_its_base_action() -> None:
    plain = Profile(Deidentify(dates="remove", descriptors="remove", device="remove"), Kind.IMAGE)
    letters = {Action.REMOVE: "X", Action.EMPTY: "Z", Action.DUMMY: "D", Action.REMAP: "U"}
    for tag, base in base_actions().items():
        found = plain.action(tag)
        # The patient's number; structured content; file meta and directories, which have no place in a data set.
        if found in (Action.KEYED, Action.CONTENT) or tag >> 16 < 0x0008:
            continue
        assert letters[found] in base.replace("U*", ""), f"{tag:08X}"


def test_private_unknown_and_repeating_attributes_go() -> None:
    for tag in (0x00091001, 0x00290010, 0x60003000, 0x50100010, 0x00080000, 0x00000002, 0x00189999, 0xFFFCFFFC):
        assert IMAGE.action(tag) == Action.REMOVE


def test_only_descriptors_of_the_examination_are_looked_up() -> None:
    for keyword in DESCRIPTORS:
        assert action(keyword, Profile(Deidentify(descriptors="remove"), Kind.IMAGE)) != Action.WORDS
