"""The clean clone in which a scheduled run works, on a branch of its own, and how its result is published.

Published is what the repository holds that it was cloned from: a failed or refused run pushes nothing there.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from fetalflex.artifacts import read_json, write_json
from fetalflex.deid.keys import FILE_VARIABLE, KEY_FILE, VARIABLE
from fetalflex.release.manifest import MANIFEST, Manifest
from tasks import repository, tracking, versioning
from tasks.releasing.clone import adopt, check_is_dataset
from tasks.stage import WORK
from tasks.workspace import INCOMING, load_center, load_params, raw_folder, state_folder


@dataclass(frozen=True)
class ScheduledRun:
    """A run: the repository that it was cloned from, the commit it began at, its branch; `resumed` after a kill."""

    origin: str
    base: str
    branch: str
    resumed: bool = False


def origin_of(root: Path, given: str = "") -> str:
    """Return the repository that runs publish to: the one given, else the workspace's `origin`, else itself."""
    if given:
        return given
    remotes = repository.git(root, "remote").split()
    return repository.git(root, "remote", "get-url", "origin").strip() if "origin" in remotes else str(root)


def next_tag(root: Path, origin: str) -> str:
    """Return vYYYY.MM of today; a second release of a month gets `.2`, and so on."""
    month = datetime.now(UTC).strftime("v%Y.%m")
    taken = {
        line.partition("refs/tags/")[2] for line in repository.git(root, "ls-remote", "--tags", origin).split("\n")
    }
    number = 1
    while (tag := month if number == 1 else f"{month}.{number}") in taken:
        number += 1
    return tag


@contextmanager
def run_clone(root: Path, origin: str) -> Iterator[tuple[Path, ScheduledRun]]:
    """Yield the clone of a run; it stays where the run breaks off, and the next one of the same commit goes on in it.

    Raw files, the pseudonym key and MLflow are those of the workspace; data come by `dvc pull` into its cache.
    """
    check_is_dataset(root)
    tree, note = root / WORK / "regenerate", root / WORK / "regenerate.json"
    base = repository.git(root, "ls-remote", origin, "HEAD").split()[0]
    run = _unfinished(tree, note, origin, base)
    if run is None:
        shutil.rmtree(tree, ignore_errors=True)
        repository.git(root, "clone", "--quiet", origin, str(tree))
        run = ScheduledRun(origin, base, _branch(tree))
        repository.git(tree, "checkout", "--quiet", "-b", run.branch, base)
        _furnish(root, tree)
        write_json(note, asdict(run))
    with _environment(root), tracking.tracked_in(root):
        yield tree, run
    note.unlink(missing_ok=True)
    shutil.rmtree(tree, ignore_errors=True)


def _unfinished(tree: Path, note: Path, origin: str, base: str) -> ScheduledRun | None:
    """Return the run that was cut off in this clone, None where there is none or the repository has moved on."""
    if not (tree / "params.yaml").is_file() or not note.is_file():
        return None
    found = read_json(note)
    return ScheduledRun(**found | {"resumed": True}) if (found["origin"], found["base"]) == (origin, base) else None


def _branch(tree: Path) -> str:
    """Return a new branch's name: the time is for people, the number makes it unique, whatever the clock does."""
    known = repository.git(tree, "branch", "--all", "--format=%(refname)").split()
    start = f"regenerate/{datetime.now(UTC):%Y-%m-%d}"
    number = 1
    while any(name.endswith(f"/{start}-{number}") for name in known):
        number += 1
    return f"{start}-{number}"


def _furnish(root: Path, tree: Path) -> None:
    """Give the clone what git does not carry: DVC's local configuration and cache, and the raw files, by link."""
    adopt(root, tree)
    versioning.use_cache(tree, versioning.cache_folder(root))
    exclude = tree / ".git" / "info" / "exclude"
    exclude.parent.mkdir(exist_ok=True)
    exclude.write_text(f"/{INCOMING}/*\n!/{INCOMING}/*.manifest\n")  # a link is no folder for .gitignore
    for center in load_params(tree).ingest.centers:
        source, target = raw_folder(root, center), raw_folder(tree, center)
        # Embedded centers are drawn anew, so that nothing is ever written through a link.
        if load_center(tree, center).phantom is None and source.is_dir():
            target.parent.mkdir(exist_ok=True)
            target.symlink_to(source.resolve(), target_is_directory=True)


@contextmanager
def _environment(root: Path) -> Iterator[None]:
    """Let the clone use the workspace's pseudonym key where the environment names none."""
    if VARIABLE in os.environ or FILE_VARIABLE in os.environ or not (root / KEY_FILE).is_file():
        yield
        return
    os.environ[FILE_VARIABLE] = str(root / KEY_FILE)
    try:
        yield
    finally:
        del os.environ[FILE_VARIABLE]


def pull(tree: Path) -> None:
    """Bring the outputs of all stages that dvc.lock knows: those of the last run, not the exports of releases."""
    stages = versioning.locked(tree)
    if stages:
        versioning.pull(tree, *stages)


def released_already(tree: Path) -> str | None:
    """Return the release that was made of this very commit, None where there is none."""
    commit = repository.head(tree)
    for tag in reversed(repository.tags(tree)):
        text = repository.show(tree, f"refs/tags/{tag}", MANIFEST.as_posix())
        if text is not None and Manifest.model_validate_json(text).parent == commit:
            return tag
    return None


def publish(tree: Path, run: ScheduledRun, tag: str) -> None:
    """Push the run's branch and the release's tag, both or neither. The data were pushed, and read again, before."""
    refs = (f"refs/heads/{run.branch}", f"refs/tags/{tag}")
    repository.git(tree, "push", "--quiet", "--atomic", run.origin, *(f"{ref}:{ref}" for ref in refs))


def keep_page(root: Path, tree: Path, run: ScheduledRun) -> Path | None:
    """Keep a run's report in the workspace, where it can be read after the clone has gone."""
    page = tree / "reports" / "index.html"
    if not page.is_file():
        return None
    target = state_folder(root) / "runs" / f"{run.branch.rpartition('/')[2]}.html"
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(page, target)
    return target
