"""The page that a data steward looks at before the decision: one self-contained HTML file.

It shows identifiers (pictures and values before de-identification), so it is private to its owner and deleted with the
decision. All text from headers is escaped; there is no script and nothing from elsewhere on it.
"""

import base64
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image
from scipy import ndimage

from fetalflex.onboarding.draft import LANGUAGES
from fetalflex.onboarding.probe import Census
from fetalflex.onboarding.shift import Shift, Spread
from fetalflex.onboarding.trial import Preview, Trial
from fetalflex.onboarding.words import WORDS
from fetalflex.reasons import REASONS
from fetalflex.report.page import duration, number, page_style, percent

Pixels = npt.NDArray[np.uint8]
ACTIONS = {
    "removed": "gone",
    "emptied": "no value is left, where the standard asks for the attribute",
    "replaced": "another value: keyed, moved, or only the words of our own vocabularies in it",
    "kept": "as it was: it names nobody and is of use",
}
FEW_CASES = 6
RED = np.array([255.0, 70.0, 60.0], np.float32)


@dataclass(frozen=True)
class Copies:
    """What is there twice. `pairs`: (exact or near, center of the other, whether the patient is the same)."""

    equal_files: int = 0
    equal_images: int = 0
    shared_images: int = 0
    tied_patients: int = 0
    pairs: tuple[tuple[str, str, bool], ...] = ()


@dataclass(frozen=True)
class Estimate:
    """What ingesting all will take: seconds on one core, bytes of frames (None where no trial told), raw bytes."""

    seconds: float | None
    stored_bytes: int | None
    raw_bytes: int


@dataclass(frozen=True, eq=False)
class Page:
    """Everything that the page shows. `unmatched`: descriptions that hold no word of ours, with counts."""

    center: str
    known: bool
    census: Census
    new_files: int
    read_files: int
    refused: Mapping[str, int]
    unmatched: Sequence[tuple[str, int]]
    draft: str
    trial: Trial
    duplicates: Copies
    shifts: Sequence[Shift]
    planes: Mapping[str, Mapping[str, int]]
    estimate: Estimate
    phantoms: Sequence[str]
    draft_path: str


def render(page: Page) -> str:
    """Return the page as HTML; all text is escaped, and no script runs on it."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "seconds": duration,
        "figure": number,
        "percent": percent,
        "bytes": size,
        "breakable": breakable,
    }
    template = environment.from_string((files("fetalflex.onboarding") / "template.html").read_text(encoding="utf-8"))
    reasons = _reasons(page)
    return template.render(
        p=page,
        style=page_style(),
        cases=[_case(preview) for preview in page.trial.previews],
        attributes=_attributes(page.trial.previews),
        actions=ACTIONS,
        reasons=reasons,
        unusable=sum(page.census.reasons.values()),
        words=[(w, n, *WORDS[w][:1], LANGUAGES[WORDS[w][1]]) for w, n in page.census.words.items()],
        centers=[c for c in next(iter(page.planes.values()), {}) if c != "new"],
        plots=[(shift, _plot(shift)) for shift in page.shifts if shift.new is not None],
        questions=_questions(page),
    )


def size(count: float | None) -> str:
    """Return bytes for people: 812 B, 3.4 MB."""
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if count >= 100 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def breakable(path: str) -> Markup:
    """Return an attribute's path, escaped, that may break between its steps."""
    return Markup("/<wbr>").join(path.split("/"))


def _questions(page: Page) -> list[str]:
    """Return what a person should look at, worst first, each as one sentence."""
    census, found = page.census, []
    failed = [p for p in page.trial.previews if p.reason]
    if not page.trial.frames:
        found.append("No case of the trial gave a usable frame: approving this center would add nothing.")
    if failed:
        found.append(f"{len(failed)} of {page.trial.files} trial cases could not be shown; their reasons stand below.")
    if page.trial.files < FEW_CASES:
        found.append(f"The trial holds {page.trial.files} cases only: it says little about the rest.")
    if not census.words:
        found.append("No description holds a word for a plane: every frame would get the plane unknown.")
    elif census.unmatched > census.images / 2:
        found.append("More than half of the images have a description without a word for a plane: add words.")
    if page.duplicates.tied_patients:
        found.append(
            f"Stored under more than one patient number: {_counted(page.duplicates.shared_images, 'image')}. The "
            f"{page.duplicates.tied_patients} patients that are tied so go into one group of the splits."
        )
    if census.images and not census.with_spacing:
        found.append("No image states a spacing: sizes in millimetres will be unknown for this center.")
    if page.phantoms:
        found.append(
            f"The workspace also lists simulated centers ({', '.join(page.phantoms)}): they would train beside "
            f"patients' images; take them out of ingest.centers unless that is wanted."
        )
    if "licence: not stated" in page.draft:
        found.append("The licence is not stated yet: write it into the profile.")
    return found


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _reasons(page: Page) -> list[tuple[Any, ...]]:
    """Return (reason, of all files, of the source's, of the trial's, meaning, what to do), the commonest first."""
    columns = (page.census.reasons, page.refused, page.trial.quarantine)
    known = {reason.value: texts for reason, texts in REASONS.items()}
    names = dict.fromkeys(name for counts in columns for name in counts)
    rows = [(n, *(c.get(n, 0) for c in columns), *known.get(n, ("", ""))) for n in names]
    return sorted(rows, key=lambda r: (-sum(r[1:4]), r[0]))


def _case(preview: Preview) -> dict[str, Any]:
    shown = {"preview": preview, "before": "", "after": "", "width": 0, "height": 0}
    if preview.before is not None and preview.after is not None:
        height, width = preview.before.shape[:2]
        shown |= {
            "before": _picture(_tinted(preview)),
            "after": _picture(preview.after),
            "width": width,
            "height": height,
        }
    return shown


def _tinted(preview: Preview) -> Pixels:
    """Return the picture before, with what was blanked in red: what shines through there does not leave."""
    if preview.before is None or preview.after is None:
        raise ValueError("a case without pictures has nothing to tint")
    gone = (preview.before != preview.after).any(axis=-1)
    near = ndimage.binary_dilation(gone, iterations=2)
    tinted = preview.before.astype(np.float32)
    tinted[near] = tinted[near] * 0.75 + RED * 0.25
    tinted[gone] = (
        preview.before[gone] * np.float32(0.35)
        + RED * 0.65 * preview.before[gone].max(axis=-1, keepdims=True) / 255
        + RED * 0.12
    )
    return np.asarray(tinted.clip(0, 255), np.uint8)


def _picture(pixels: Pixels) -> str:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="WEBP", quality=82, method=4)
    return base64.b64encode(out.getvalue()).decode("ascii")


def _attributes(previews: Sequence[Preview]) -> list[dict[str, Any]]:
    """Return every attribute once: in how many cases what was done with it, and an example before and after."""
    grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for preview in previews:
        for change in preview.changes:
            grouped[change["action"], change["name"]].append(change)
    order = list(ACTIONS)
    rows = [
        {
            "action": action, "name": name, "count": len(changes),
            "before": next((c["before"] for c in changes if c["before"]), ""),
            "after": next((c["after"] for c in changes if c["before"]), changes[0]["after"]),
        }
        for (action, name), changes in grouped.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda r: (order.index(r["action"]) if r["action"] in order else 9, r["name"]))


def _plot(shift: Shift) -> dict[str, Any]:
    """Return the rows of a strip plot: per center its quartiles and values as percent of the drawn range."""
    spreads = [s for s in (shift.new, *shift.others) if s is not None]
    low, high = min(s.values[0] for s in spreads), max(s.values[-1] for s in spreads)
    reach = (high - low) or 1.0

    def place(value: float) -> float:
        return round(3 + 94 * (value - low) / reach, 2) if high > low else 50.0

    def row(spread: Spread) -> dict[str, Any]:
        return {
            "name": spread.center, "count": spread.count, "low": place(spread.low), "high": place(spread.high),
            "median": place(spread.median), "dots": [place(v) for v in spread.values], "value": spread.median,
            "text": f"{number(spread.low, 2)} to {number(spread.high, 2)}",
        }  # fmt: skip

    return {"rows": [row(s) for s in spreads], "low": low, "high": high}
