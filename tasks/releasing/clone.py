"""Clean clones of a workspace at a commit: a release is made and proven from what is versioned alone."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from fetalflex.errors import UsageError
from tasks import repository, versioning
from tasks.stage import WORK


@contextmanager
def clone_at(root: Path, commit: str, name: str, cache: Path | None = None) -> Iterator[Path]:
    """Yield a clone at a commit in `.work/NAME/tree`, without data yet; it is removed at the end.

    `cache`: DVC's cache to use; None: an empty one of its own, so that everything comes from the remote.
    Raises: UsageError in the software's own checkout.
    """
    check_is_dataset(root)
    place = root / WORK / name
    shutil.rmtree(place, ignore_errors=True)  # the rest of one that was killed
    place.mkdir(parents=True)
    tree = place / "tree"
    try:
        repository.git(root, "clone", "--quiet", "--shared", "--no-checkout", str(root), str(tree))
        repository.git(tree, "checkout", "--quiet", "--detach", commit)
        adopt(root, tree)
        versioning.use_cache(tree, cache or place / "cache")
        yield tree
    finally:
        shutil.rmtree(place, ignore_errors=True)


def check_is_dataset(root: Path) -> None:
    """Raise where dvc.lock is not versioned: in the software's own checkout. Raises: UsageError."""
    if (root / "flows" / "cli.py").is_file() and (root / "fetalflex").is_dir():
        raise UsageError(
            "this is the software's checkout, whose data are not versioned: make a dataset with 'fetalflex init DIR'"
        )


def adopt(root: Path, tree: Path) -> None:
    """Give a clone what git does not carry: DVC's local configuration (credentials), and relative remotes."""
    local = root / ".dvc" / "config.local"
    if local.is_file():
        shutil.copyfile(local, tree / ".dvc" / "config.local")
    for name, url in versioning.remotes(root).items():
        if not urlsplit(url).scheme and not Path(url).is_absolute():
            versioning.use_remote(tree, name, str((root / ".dvc" / url).resolve()))
