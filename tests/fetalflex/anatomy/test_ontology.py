import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.sr._concepts_dict import concepts

from fetalflex.anatomy import ontology
from fetalflex.anatomy.ontology import PLANES, STRUCTURE_NAMES, STRUCTURES, Plane, Structure
from fetalflex.errors import AnnotationError, LayoutError


def test_numbers_of_channels_and_planes_never_change() -> None:
    """Weights and packed cases count on them: append only, and lengthen these lists."""
    assert " ".join(STRUCTURE_NAMES[:15]) == (
        "head csp lateral-ventricle abdomen stomach umbilical-vein spine thorax heart left-ventricle right-ventricle "
        "left-atrium right-atrium femur cerebellum"
    )
    assert " ".join(STRUCTURE_NAMES[15:28]) == (
        "thalami cisterna-magna kidney renal-pelvis nose nasal-bone upper-lip lower-lip mandible choroid-plexus-cyst "
        "septal-defect omphalocele duodenum"
    )
    assert " ".join(ontology.PLANE_NAMES[:9]) == (
        "unknown transventricular transthalamic transcerebellar brain abdomen four-chamber femur thorax"
    )
    assert ontology.PLANE_NAMES[9:12] == ("face", "face-lips", "kidneys")


def test_names_and_codes_are_unique() -> None:
    assert len(set(STRUCTURE_NAMES)) == len(STRUCTURES)
    assert len({(s.scheme, s.code) for s in STRUCTURES}) == len(STRUCTURES)
    assert len(set(ontology.PLANE_NAMES)) == len(PLANES)


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: s.name)
def test_codes_and_meanings_are_those_of_dicom(structure: Structure) -> None:
    """Source: DICOM PS3.16 as pydicom copies it; a private code must be marked as ours."""
    if structure.scheme != ontology.PRIVATE_SCHEME:
        meanings = {
            m for by_code in concepts[structure.scheme].values() for c, (m, _) in by_code.items() if c == structure.code
        }
        assert structure.meaning in meanings
    assert 0 <= structure.echogenicity <= 1
    assert len(structure.code) <= 16  # a code value is an SH: PS3.5 6.2
    assert ontology.structure_by_code(structure.scheme, structure.code) is structure
    assert ontology.structure(structure.name) is structure


def test_bone_is_brighter_than_tissue_and_tissue_than_fluid() -> None:
    bone, tissue, fluid = (ontology.structure(n).echogenicity for n in ("femur", "heart", "stomach"))
    assert bone > tissue > fluid


@pytest.mark.parametrize("plane", PLANES, ids=lambda p: p.name)
def test_planes_ask_for_known_structures_once_each(plane: Plane) -> None:
    assert len(set(plane.structures)) == len(plane.structures) > 0
    assert set(plane.structures) <= set(STRUCTURE_NAMES)
    assert ontology.plane(plane.name) is plane
    assert PLANES[ontology.plane_index(plane.name)] is plane


def test_an_unstated_plane_allows_everything_and_has_number_0() -> None:
    assert ontology.plane_index("unknown") == 0
    assert set(ontology.plane("unknown").structures) == set(STRUCTURE_NAMES)


@given(st.text(max_size=12).filter(lambda t: t not in STRUCTURE_NAMES and t not in ontology.PLANE_NAMES))
def test_unknown_names_are_named_with_what_was_expected(name: str) -> None:
    for find in (ontology.structure, ontology.structure_index):
        with pytest.raises(AnnotationError, match="unknown; expected one of head, csp"):
            find(name)
    for find in (ontology.plane, ontology.plane_index):
        with pytest.raises(LayoutError, match="unknown; expected one of unknown, transventricular"):
            find(name)
    assert ontology.structure_by_code("SCT", name) is None
