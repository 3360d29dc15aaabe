"""The drafted profile: valid whatever the counts, commented line by line, and nothing of a header in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from fetalflex.deid.allowlist import check_profile, find_plane
from fetalflex.errors import ParameterError
from fetalflex.onboarding.draft import planes_by_word, read_profile, write_draft
from fetalflex.onboarding.probe import Census, take_census
from fetalflex.onboarding.words import WORDS, find_word, plane_of
from tests.fetalflex.onboarding.rows import image

HOSTILE = ["name: [inject", "brain\n  evil: true", "#brain", "brain: *x", "'\"}{", "!!python/object:os.system brain"]


def test_every_line_that_says_something_has_a_comment() -> None:
    text = write_draft("north", take_census([image()])).text
    said = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all("#" in line or line == "planes:" for line in said)
    assert any(line.startswith("# How planes are recognised") for line in text.splitlines())


def test_hostile_descriptions_change_nothing_but_counts() -> None:
    rows = [image(f"{i}.dcm", text=text, word=find_word(text)) for i, text in enumerate(HOSTILE)]
    draft = write_draft("north", take_census(rows))
    assert set(draft.profile.planes) <= set(WORDS)
    assert not any(text in draft.text for text in HOSTILE)
    assert "evil" not in draft.text


@given(
    st.dictionaries(st.sampled_from(list(WORDS)), st.integers(1, 10**6)),
    st.integers(0, 9), st.integers(0, 9), st.from_regex(r"[a-z][a-z0-9-]{0,40}", fullmatch=True),
)  # fmt: skip
def test_any_counts_give_a_valid_profile(words: dict[str, int], images: int, other: int, center: str) -> None:
    census = Census(words=words, images=images, annotations=other, unmatched=other, with_spacing=images // 2)
    draft = write_draft(center, census)
    check_profile(center, draft.profile)
    assert isinstance(draft.profile.title, str)
    assert draft.profile.planes == planes_by_word(words)


@given(st.lists(st.lists(st.sampled_from([*WORDS, "fetal", "study 7", "x"]), max_size=4).map(" ".join), max_size=12))
def test_the_draft_finds_the_same_planes_as_the_vocabulary(descriptions: list[str]) -> None:
    rows = [image(str(i), text=text, word=find_word(text)) for i, text in enumerate(descriptions)]
    profile = write_draft("north", take_census(rows)).profile
    for text in descriptions:
        header = Dataset()
        header.StudyDescription = text[:64]
        header.SeriesDescription = text[64:]
        whole = f"{header.StudyDescription} {header.SeriesDescription}"
        if find_word(whole) == find_word(text):
            assert find_plane(header, profile) == plane_of(find_word(text))


def test_a_center_without_known_words_gets_an_empty_list() -> None:
    draft = write_draft("true", take_census([image(word="", text="etwas")]))
    assert draft.profile.planes == {}
    assert draft.profile.title == "True"
    assert "1 images have a description that matches none" in draft.text


def test_an_edited_profile_that_is_no_yaml_or_has_unknown_keys_is_named() -> None:
    with pytest.raises(ParameterError, match=r"north\.yaml: is no YAML"):
        read_profile("title: [", "north.yaml")
    with pytest.raises(ParameterError, match="titel"):
        read_profile("title: x\ntitel: x\nlicence: y\n", "north.yaml")
