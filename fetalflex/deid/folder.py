"""A tree of files, de-identified: what can be used is written under keyed names, the rest gets a named reason.

Nothing of a source's path or header enters an output name, the journal or the report. A run that was cut off goes on:
finished files stand in a journal in the output folder and are not done again.
"""

import json
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fetalflex.artifacts import atomic, file_sha256, read_json, write_json
from fetalflex.deid import worker
from fetalflex.deid.keys import PseudonymKey, key_fingerprint, keyed_hash
from fetalflex.deid.profile import EDITION
from fetalflex.dicom.sandbox import Budget, Sandbox
from fetalflex.errors import ArtifactError, QuarantineError, Reason, SourceError, UsageError
from fetalflex.params import Deidentify

JOURNAL, SETTINGS = ".deidentify.jsonl", ".deidentify.json"
# Clips of thousands of frames are real; each frame is an answer, so a file that hangs is still noticed.
BUDGET = Budget(memory_bytes=640 * 2**20, message_s=120, file_s=3600)
# The text detector is loaded once a worker, and does not count against the memory of its files.
PRELOAD = ("fetalflex.deid.worker", "fetalflex.deid.pixels:warm_up")


@dataclass(frozen=True)
class Outcome:
    """One source file: its keyed id, what became of it, and where. `outcome`: written or a quarantine reason.

    `content`: keyed hash of the bytes. `output`: relative to the output folder, empty where nothing was written.
    `detail`: of a reason. `report`: `file.FileReport` of what was written, as JSON.
    """

    file_id: str
    content: str
    outcome: str
    output: str = ""
    detail: str = ""
    report: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """How far it is: files seen, of how many, and how many of them were already done by an earlier run."""

    done: int
    total: int
    resumed: int


def deidentify_folder(
    source: Path, target: Path, options: Deidentify, center: str, key: PseudonymKey, words: Sequence[str] = ()
) -> Iterator[Progress]:
    """De-identify every file below `source` (or the one file `source`) into `target`, yielding after each.

    Links are not followed, other than regular files not opened. Of equal files one is written; of files with equal UID
    and other bytes, the first by path. `target` holds one run's settings: another profile or key is refused.
    Raises: SourceError where `source` is missing or empty, UsageError where `target` lies in `source` or has other
    settings.
    """
    files = _list(source)
    _check_target(source, target, _settings(options, center, key, words))
    known = _resumable(target)
    seen = {o.content for o in known.values() if o.outcome == "written"}
    uids = {str(o.report["uid"]) for o in known.values() if o.outcome == "written"}
    resumed = 0
    with Sandbox(BUDGET, key, PRELOAD) as sandbox:
        job = _Job(sandbox, target, options, center, list(words), key, seen, uids)
        for number, (path, relative) in enumerate(files, 1):
            file_id = keyed_hash(key, "path", relative)
            content = _content(path, key)
            before = known.get(file_id)
            if before is not None and before.content == content:
                resumed += 1
            else:
                _note(target, job.do(path, file_id, content))
            yield Progress(number, len(files), resumed)


def read_outcomes(target: Path) -> list[Outcome]:
    """Return the last outcome of every file, sorted. Raises: ArtifactError for a damaged journal."""
    return sorted(_journal(target).values(), key=lambda o: (o.outcome, o.file_id))


def summarize(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what the report says: counts by outcome, changes by attribute, and one row per file. No value, no path."""
    changes: Counter[tuple[str, str]] = Counter()
    for outcome in outcomes:
        for row in outcome.report.get("changes", ()):
            changes[row["attribute"], row["outcome"]] += row["count"]
    rows = [asdict(o) | {"report": {k: v for k, v in o.report.items() if k != "changes"}} for o in outcomes]
    return {
        "edition": EDITION,
        "outcomes": dict(sorted(Counter(o.outcome for o in outcomes).items())),
        "attributes": [{"attribute": a, "outcome": w, "count": n} for (a, w), n in sorted(changes.items())],
        "files": rows,
    }


@dataclass(frozen=True)
class _Job:
    sandbox: Sandbox
    target: Path
    options: Deidentify
    center: str
    words: list[str]
    key: PseudonymKey
    seen: set[str]
    uids: set[str]

    def do(self, path: Path, file_id: str, content: str) -> Outcome:
        """De-identify one file, or say why not."""
        output = f"{content[:2]}/{content}.dcm"
        try:
            if not content:
                raise QuarantineError(Reason.OUTSIDE_TREE, "is a link, or no regular file")  # noqa: TRY301
            if content in self.seen:
                raise QuarantineError(Reason.DUPLICATE, "holds the same bytes as another file")  # noqa: TRY301
            report = self._run(path, self.target / output)
        except QuarantineError as error:
            return Outcome(file_id, content, error.reason.value, "", error.detail)
        self.seen.add(content)
        self.uids.add(report["uid"])
        return Outcome(file_id, content, "written", output, "", report)

    def _run(self, path: Path, target: Path) -> dict[str, Any]:
        try:
            *_, (report, _) = self.sandbox.run(
                worker.deidentify, path=str(path), target=str(target), options=self.options.model_dump(),
                center=self.center, words=self.words,
            )  # fmt: skip
            if report["uid"] in self.uids:
                target.unlink()
                raise QuarantineError(
                    Reason.UID_CONFLICT, "has the SOP Instance UID of another file with other content"
                )
        finally:
            _sweep(target)
        return report


def _sweep(target: Path) -> None:
    """Remove what a worker that was killed left behind; an empty folder goes too."""
    if target.parent.is_dir():
        for partial in target.parent.glob(f".{target.name}.*.partial"):
            partial.unlink()
        with suppress(OSError):  # not empty: others wrote there
            target.parent.rmdir()


def _list(source: Path) -> list[tuple[Path, str]]:
    if source.is_file():
        return [(source, source.name)]
    if not source.is_dir():
        raise SourceError(f"{source} is missing; expected a folder of DICOM files, or one file")
    found = []
    for name, folders, names in os.walk(source):
        folder = Path(name)
        folders.sort()
        # os.walk lists links to folders among the folders, and does not follow them.
        links = [f for f in folders if (folder / f).is_symlink()]
        found += [(folder / f, str((folder / f).relative_to(source))) for f in sorted(names + links)]
    if not found:
        raise SourceError(f"{source} holds no file; expected DICOM files")
    return found


def _content(path: Path, key: PseudonymKey) -> str:
    """Return the keyed hash of a file's bytes, empty for what is no regular file."""
    regular = stat.S_ISREG(path.lstat().st_mode)
    return keyed_hash(key, "content", file_sha256(path)) if regular else ""


def _settings(options: Deidentify, center: str, key: PseudonymKey, words: Sequence[str]) -> dict[str, Any]:
    return {"edition": EDITION, "options": options.model_dump(), "center": center, "key": key_fingerprint(key),
            "words": keyed_hash(key, *sorted(words))}  # fmt: skip


def _check_target(source: Path, target: Path, settings: dict[str, Any]) -> None:
    if source.is_dir() and (target.resolve() == source.resolve() or source.resolve() in target.resolve().parents):
        raise UsageError(f"{target} lies in {source}: outputs would be read as inputs; choose a folder outside of it")
    path = target / SETTINGS
    if path.exists():
        if read_json(path) != settings:
            raise UsageError(f"{target} was made with another profile or key; choose another folder, or remove it")
        return
    if target.is_dir() and any(target.iterdir()):
        raise UsageError(f"{target} is not empty and holds no earlier run; choose a new folder")
    write_json(path, settings)


def _note(target: Path, outcome: Outcome) -> None:
    with (target / JOURNAL).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(outcome), sort_keys=True) + "\n")
        stream.flush()


def _journal(target: Path) -> dict[str, Outcome]:
    """Return the last outcome of every file. A line that a kill cut short is the last one, and not there."""
    path = target / JOURNAL
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").split("\n")
    try:
        found = [Outcome(**json.loads(line)) for line in lines[:-1]]
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path}: is damaged ({type(error).__name__}); remove {target} and start anew") from error
    if lines[-1]:
        with atomic(path) as partial:
            partial.write_text("".join(line + "\n" for line in lines[:-1]), encoding="utf-8")
    return {o.file_id: o for o in found}


def _resumable(target: Path) -> dict[str, Outcome]:
    """Return the outcomes that hold: written files that are still there, and reasons."""
    return {k: o for k, o in _journal(target).items() if o.outcome != "written" or (target / o.output).is_file()}
