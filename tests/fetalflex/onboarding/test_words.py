"""Words for planes: six languages, the specific before the general, none hidden in an everyday word."""

import pytest

from fetalflex.anatomy.ontology import PLANE_NAMES
from fetalflex.onboarding.words import WORDS, find_word, plane_of


@pytest.mark.parametrize(
    ("text", "plane"),
    [
        ("Fetal BRAIN, trans-ventricular", "transventricular"),
        ("OB 2nd trim / HEAD transthalamic", "transthalamic"),
        ("Feto: cerebelo y fosa posterior", "transcerebellar"),
        ("Crânio fetal", "brain"),
        ("Cavités: quatre cavités, cœur", "four-chamber"),
        ("Herz Vierkammerblick", "four-chamber"),
        ("Kleinhirn", "transcerebellar"),
        ("Kopf BPD", "brain"),
        ("Femore destro", "femur"),
        ("FÉMUR", "femur"),
        ("Perímetro abdominal", "abdomen"),
        ("Addome fetale", "abdomen"),
        ("Tórax", "thorax"),
        ("Torace", "thorax"),
        ("Perfil fetal, cabeza", "unknown"),
        ("Niere links", "unknown"),
        ("Colonne vertébrale", "unknown"),
    ],
)
def test_descriptions_in_six_languages_find_their_plane(text: str, plane: str) -> None:
    assert find_word(text)
    assert plane_of(find_word(text)) == plane


@pytest.mark.parametrize(
    "text", ["", "Frauenklinik Abteilung Behandlung", "OB > 14 weeks", "gestational protocol", "SMITH^JOHN"]
)
def test_everyday_words_find_none(text: str) -> None:
    assert find_word(text) == ""
    assert plane_of("") == "unknown"


def test_decomposed_accents_are_read() -> None:
    assert find_word("Fe\u0301mur") == "fémur"


def test_every_word_leads_to_a_plane_and_is_plain_text() -> None:
    assert {plane for plane, _ in WORDS.values()} <= set(PLANE_NAMES)
    assert {language for _, language in WORDS.values()} == {"en", "es", "pt", "fr", "de", "it"}
    for word in WORDS:
        assert word == word.casefold()
        assert word.replace(" ", "").replace("-", "").isalnum()
        assert len(word) >= 3
