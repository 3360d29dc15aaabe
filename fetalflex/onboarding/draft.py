"""A drafted `centers/CENTER.yaml`: every line commented, and not one word of it from a header.

What stands in it comes from our vocabularies and from counts. A header's text can therefore do nothing to it, whatever
it holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fetalflex.onboarding.probe import Census
from fetalflex.onboarding.words import WORDS, plane_of
from fetalflex.params import Center, parse

LANGUAGES = {"en": "English", "es": "Spanish", "pt": "Portuguese", "fr": "French", "de": "German", "it": "Italian"}
REQUIRED_SHARE = 0.95  # of the images: where so many state a spacing, one without is the exception


@dataclass(frozen=True)
class Draft:
    """The text of a drafted profile and the profile it holds."""

    text: str
    profile: Center


def write_draft(center: str, census: Census, *, role: str = "normal") -> Draft:
    """Return the draft for a center's files. Raises: ParameterError for a role that there is none of."""
    text = "\n".join(
        (
            f"# Profile of the center {center}, drafted by 'fetalflex onboard' from counts: edit it before you approve",
            "# Nothing here is copied from a header: words for planes are those of our own vocabulary that occurred.",
            f"title: {_quoted(_title(center))}  # the center's name for readers of reports: write it here",
            f"role: {role}  # normal: may be trained on; test_only: read by no training stage",
            "licence: not stated  # under which agreement or licence the images may be used: fill this in",
            "",
            *_planes(census),
            "",
            *_annotations(census),
            *_spacing(census),
            *_clips(census),
            *_options(),
        )
    )
    return Draft(text + "\n", read_profile(text, f"{center}.yaml"))


def read_profile(text: str, name: str) -> Center:
    """Return the profile that a text holds. Raises: ParameterError naming key, found and expected."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from fetalflex.errors import ParameterError

    try:
        value = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError) as error:
        reason = " ".join(str(error).split("To suppress")[0].split())
        raise ParameterError(f"{name}: is no YAML: {reason}") from error
    return parse(value, Center, name)


def planes_by_word(words: Mapping[str, int]) -> dict[str, str]:
    """Return word -> plane for the words that occurred, in the vocabulary's order.

    With these alone every description finds the same plane as with the whole vocabulary: a word is here only where it
    decided, and whatever stands before it decided somewhere, too.
    """
    return {word: plane_of(word) for word in WORDS if words.get(word)}


def _title(center: str) -> str:
    return " ".join(part.capitalize() for part in center.split("-") if part) or center


def _planes(census: Census) -> list[str]:
    found = planes_by_word(census.words)
    head = [
        "# How planes are recognised: word in the study's or series' description -> plane. The first that occurs",
        "# decides, case does not matter; a description with none of them gets the plane 'unknown' (unlabelled use).",
    ]
    if census.unmatched:
        head.append(
            f"# {census.unmatched} images have a description that matches none of our words, {census.undescribed} have "
            f"none at all: see the page."
        )
    if not found:
        return [*head, "planes: {}  # no word of ours occurred: add your own, for instance 'brain: brain'"]
    lines = [f"  {_quoted(word)}: {plane}  # {_said(word, census.words[word])}" for word, plane in found.items()]
    return [*head, "planes:", *lines]


def _said(word: str, count: int) -> str:
    plane, language = WORDS[word]
    view = "; a view that has no plane of its own yet" if plane == "unknown" else ""
    return f"{count} {'image' if count == 1 else 'images'}; {LANGUAGES[language]}{view}"


def _quoted(word: str) -> str:
    """Quote a word: some begin with a digit, end with a space or mean something else in YAML."""
    return f'"{word}"'


def _annotations(census: Census) -> list[str]:
    value = "all" if census.annotations else "none"
    return [
        f"annotations: {value}  # {census.annotations} annotation objects were found; all, segmentations (DICOM SEG), "
        f"boxes (structured reports) or none"
    ]


def _spacing(census: Census) -> list[str]:
    share = census.with_spacing / census.images if census.images else 0.0
    said = f"{census.with_spacing} of {census.images} images state a spacing"
    hint = "; 'required' would set the others aside" if REQUIRED_SHARE <= share < 1 else ""
    return [f"spacing: header  # {said}{hint}; ignore where images were resized outside of DICOM"]


def _clips(census: Census) -> list[str]:
    return [
        f"clips:  # still frames from clips; {census.clips} of {census.images} images are clips",
        "  frames: 2  # at most so many per clip",
        "  rule: even  # even: evenly spaced; distinct: the frames that differ most from one another",
    ]


def _options() -> list[str]:
    return [
        "deidentify:  # options of DICOM PS3.15 Annex E; the basic profile and clean pixels always hold",
        "  descriptors: clean  # clean: words of our vocabularies stay in descriptions; remove: descriptions go",
        "  dates: shift  # shift: a patient's dates move by one secret number of days; remove: they go",
        "  device: keep  # keep: maker, model and software stay; remove: they go",
    ]
