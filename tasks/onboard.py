"""The steps of an onboarding, from a source to a decision; the flow `onboard` runs them one after the other.

Until a person approves, nothing outside `.work/` and the private folder changes: no profile, no parameter, no manifest.
"""

import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fetalflex.artifacts import file_sha256, read_json, write_json
from fetalflex.deid.keys import PseudonymKey, read_key
from fetalflex.dicom.sandbox import Sandbox
from fetalflex.errors import SourceError, UsageError
from fetalflex.ingest.manifest import write_manifest
from fetalflex.onboarding.draft import read_profile, write_draft
from fetalflex.onboarding.page import Page, render
from fetalflex.onboarding.probe import Census, probe_files, take_census, unmatched_texts
from fetalflex.onboarding.trial import Trial, choose_cases, link_cases, run_trial
from fetalflex.params import Center, Params
from fetalflex.sources.open import open_source
from fetalflex.sources.query import parse_pace, parse_query
from tasks import compare
from tasks.approval import Decision, add_approval, make_entry
from tasks.private import DRAFT, PAGE, write_private
from tasks.progress import bar, console
from tasks.staging import Facts, Row, Staging
from tasks.workspace import INCOMING, add_center_text, load_center, load_params, manifest_path

NAME = re.compile(r"^[a-z][a-z0-9-]{0,40}$")


@dataclass(frozen=True)
class Request:
    """What a person asked for. `query`, `pace`: what is asked of a server, how fast; `profile`: no draft then."""

    center: str
    source: str
    query: str = ""
    profile: str = ""
    trial: int = 12
    role: str = "normal"
    pace: str = ""


@dataclass
class Findings:
    """What the steps found so far, for the page and the summary. Seconds by step."""

    seconds: dict[str, float] = field(default_factory=dict)
    fetched: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    entries: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    new: set[str] = field(default_factory=set)
    read: int = 0
    census: Census = field(default_factory=Census)
    trial: Trial | None = None


class Onboarding:
    """One onboarding of one center: its request, its staging folder, what it found."""

    def __init__(self, root: Path, request: Request, private: Path) -> None:
        """Check the request before anything is fetched. Raises: UsageError, MissingSecretError, ParameterError."""
        self.root, self.request, self.private = root, request, private
        self.key, self.params = check_request(root, request)
        self.staging = Staging(root, request.center)
        self.found = Findings()
        self.known = request.center in self.params.ingest.centers
        self.profile_text = ""

    @property
    def page(self) -> Path:
        """The private page."""
        return self.private / PAGE

    @property
    def draft_path(self) -> Path:
        """The drafted profile, to be edited before the approval."""
        return self.private / DRAFT

    def fetch(self) -> None:
        """Bring the source's files into the staging folder; goes on where a killed one stopped."""
        self.staging.open()
        query = parse_query(self.request.query) if self.request.query else None
        manners = parse_pace(self.request.pace) if self.request.pace else None
        source = open_source(self.request.source, query, manners=manners)
        with bar(f"fetch {self.request.center}", 1) as shown:
            for step in source.fetch(self.staging.raw, self.key):
                shown.total = step.total
                shown.advance()
                self.found.fetched[step.state] += 1
                if step.state == "refused" and step.reason is not None:
                    self.found.refused[step.reason.value] += 1

    def probe(self) -> bool:
        """Read the headers that no earlier onboarding read; return whether there is anything new to decide."""
        names = self.staging.names()
        if not names:
            raise SourceError(f"center {self.request.center}: the source delivered no file")
        self.found.entries = self.staging.manifest(self.key)
        self.found.new = self.staging.new_names(self.key, self.found.entries)
        facts = Facts(self.root, self.request.center, self.key)
        rows = {name: facts.find(self.staging.raw, name) for name in names}
        unread = [name for name, row in rows.items() if row is None]
        self.found.read = len(unread)
        with Sandbox(key=self.key) as sandbox, bar(f"probe {self.request.center}", len(unread)) as shown:
            for row in probe_files(sandbox, self.staging.raw, unread, self.request.center):
                rows[row["name"]] = row
                shown.advance()
        self.found.rows = [row for row in rows.values() if row is not None]
        self.found.census = take_census(self.found.rows)
        return bool(self.found.new)

    def draft(self) -> None:
        """Lay the profile into the private folder: a given one, the center's own, or a draft from the counts."""
        own = self.root / "centers" / f"{self.request.center}.yaml"
        if self.request.profile:
            self.profile_text = Path(self.request.profile).read_text(encoding="utf-8")
        elif own.is_file():
            self.profile_text = own.read_text(encoding="utf-8")
        else:
            self.profile_text = write_draft(self.request.center, self.found.census, role=self.request.role).text
        write_private(self.draft_path, self.profile_text)
        self.profile()

    def profile(self) -> Center:
        """Return the profile as it stands in the private folder now. Raises: ParameterError."""
        self.profile_text = self.draft_path.read_text(encoding="utf-8")
        return check_profile_text(self.profile_text, self.request.center)

    def trial(self) -> None:
        """De-identify some of the new cases as ingest would."""
        new = [row for row in self.found.rows if row["name"] in self.found.new]
        chosen = choose_cases(new, self.request.trial)
        folder = self.private / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        link_cases(self.staging.raw, folder, chosen, new)
        center, ingest = self.request.center, self.params.ingest
        if chosen:
            self.found.trial = run_trial(folder, center, self.profile(), ingest, self.key, chosen)
        shutil.rmtree(folder)

    def write_page(self) -> None:
        """Compare with the centers already there, and write the private page."""
        trial = self.found.trial or Trial(0)
        others = compare.read_centers(self.root, self.params, without=self.request.center)
        page = Page(
            center=self.request.center,
            known=self.known,
            census=self.found.census,
            new_files=len(self.found.new),
            read_files=self.found.read,
            refused=dict(self.found.refused),
            unmatched=unmatched_texts(self.found.rows),
            draft=self.profile_text,
            trial=trial,
            duplicates=compare.find_copies(
                self.root, self.params, trial, self.found.rows, list(self.found.entries.values())
            ),
            shifts=compare.shifts(trial, others),
            planes=compare.planes(trial, others),
            estimate=compare.estimate(self.found.census, trial),
            phantoms=phantom_centers(self.root, self.params),
            draft_path=str(self.draft_path.relative_to(self.root)),
        )
        write_private(self.page, render(page))

    def apply(self, decision: Decision) -> None:
        """Carry an approval out: it is written down first, so that a kill in between loses nothing."""
        self.profile()
        census, trial = self.found.census, self.found.trial
        counts = {
            "files": census.files, "new_files": len(self.found.new), "images": census.images,
            "patients": census.patients, "trial_cases": 0 if trial is None else trial.files,
        }  # fmt: skip
        entry = make_entry(decision, counts)
        Facts(self.root, self.request.center, self.key).keep(self.staging.raw, self.found.rows)
        write_json(
            self.staging.pending,
            {
                "center": self.request.center,
                "profile": self.profile_text,
                "entries": self.found.entries,
                "entry": entry,
            },
        )
        finish_approval(self.root, self.request.center)

    def refuse(self) -> None:
        """Carry a refusal out: what was fetched for it goes, the workspace is as it was."""
        self.staging.remove()


def check_request(root: Path, request: Request) -> tuple[PseudonymKey, Params]:
    """Return key and parameters of a request that can be carried out.

    Raises: UsageError, MissingSecretError, ParameterError.
    """
    center = request.center
    if not NAME.match(center):
        raise UsageError(
            f"center {center!r}: expected a lower-case letter, then up to 40 lower-case letters, digits, '-'"
        )
    params = load_params(root)
    if center in phantom_centers(root, params):
        raise UsageError(f"center {center} is simulated: choose another name for a real one")
    if request.role not in ("normal", "test_only"):
        raise UsageError(f"role {request.role!r}: expected normal or test_only")
    if request.trial < 1:
        raise UsageError(f"a trial of {request.trial} cases: expected at least 1, so that somebody can look at them")
    parse_pace(request.pace)
    source = Path(request.source)
    if source.exists() and source.resolve().is_relative_to((root / INCOMING).resolve()):
        raise UsageError("the source lies in incoming/, where approved files go: move it out of the workspace first")
    if request.profile:
        path = Path(request.profile)
        if not path.is_file():
            raise UsageError(f"the profile {path} is missing: name a file like centers/CENTER.yaml")
        check_profile_text(path.read_text(encoding="utf-8"), center)
    return read_key(root), params


def check_profile_text(text: str, center: str) -> Center:
    """Return a profile that a real center may have. Raises: ParameterError, UsageError."""
    from fetalflex.deid.allowlist import check_profile

    profile = read_profile(text, f"{center}.yaml")
    check_profile(center, profile)
    if profile.phantom is not None:
        raise UsageError(f"{center}.yaml: phantom: a real center is not simulated: remove that section")
    return profile


def phantom_centers(root: Path, params: Params) -> list[str]:
    """Return the simulated centers that the workspace lists: they would train beside patients' images."""
    return [name for name in params.ingest.centers if load_center(root, name).phantom is not None]


def finish_approval(root: Path, center: str) -> bool:
    """Carry out an approval that is written down; return whether there was one. Each step can be done again."""
    staging = Staging(root, center)
    if not staging.pending.is_file():
        return False
    pending = read_json(staging.pending)
    profile = check_profile_text(pending["profile"], center)
    staging.move_in()
    write_manifest(manifest_path(root, center), pending["entries"])
    add_center_text(root, center, pending["profile"], "test_only" if profile.role == "test_only" else "frames")
    approved = {"manifest": manifest_path(root, center), "profile": root / "centers" / f"{center}.yaml"}
    add_approval(root, center, pending["entry"] | {f"{n}_sha256": file_sha256(p) for n, p in approved.items()})
    staging.remove()
    return True


def summarize(work: Onboarding) -> dict[str, Any]:
    """Return what was found in numbers and words of ours: safe to print, log and keep."""
    census, trial = work.found.census, work.found.trial
    return {
        "center": work.request.center, "files": census.files, "new_files": len(work.found.new),
        "read_files": work.found.read, "images": census.images, "patients": census.patients,
        "annotations": census.annotations, "megabytes": round(census.bytes / 1e6, 1),
        "rejected": census.reasons, "refused_by_source": dict(work.found.refused),
        "trial": None if trial is None else {
            "files": trial.files, "frames": len(trial.frames), "quarantine": trial.quarantine,
            "planes": dict(Counter(r["plane"] for r in trial.frames)),
        },
        "seconds": {k: round(v, 2) for k, v in work.found.seconds.items()},
    }  # fmt: skip


def say_summary(work: Onboarding) -> None:
    """Tell a person at the terminal what to look at before the question."""
    census = work.found.census
    rejected = ", ".join(f"{n} {r}" for r, n in census.reasons.items())
    console.print(
        f"{work.request.center}: {census.files} files ({len(work.found.new)} new), {census.images} images of "
        f"{census.patients} patients, {census.annotations} annotation objects"
        + (f"; unusable: {rejected}" if rejected else "")
    )
    phantoms = phantom_centers(work.root, work.params)
    if phantoms:
        console.print(
            f"[yellow]This workspace also lists simulated centers ({', '.join(phantoms)}): they would train beside "
            f"patients' images. Take them out of ingest.centers in params.yaml unless you want that.[/yellow]"
        )
    console.print(f"Look at it (it shows identifiers, and is deleted with your decision): {work.page}", soft_wrap=True)
    console.print(f"The profile, which you may edit before you answer: {work.draft_path}", soft_wrap=True)
