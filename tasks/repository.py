"""Git, driven by its command line: what releases and scheduled runs need of it."""

import os
import subprocess
from pathlib import Path

from fetalflex.errors import UsageError, WorkspaceError

# A commit of ours must not fail where nobody has told git a name: a scheduler's account has none.
_AUTHOR = {"name": "FetalFlex", "email": "fetalflex@localhost"}


def git(root: Path, *arguments: str) -> str:
    """Run git and return what it prints. Raises: WorkspaceError with its last line."""
    # A hook or an alias that calls us must not lend us its own repository.
    env = {k: v for k, v in os.environ.items() if k not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")}
    done = subprocess.run(
        ["git", *arguments], cwd=root, env=env | {"GIT_TERMINAL_PROMPT": "0"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        told = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "")
        raise WorkspaceError(f"git {arguments[0]} failed: {told or 'no message'}")
    return done.stdout


def head(root: Path) -> str:
    """Return the commit that the tree stands on. Raises: WorkspaceError before the first commit."""
    try:
        return git(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}").strip()
    except WorkspaceError as error:
        raise WorkspaceError("nothing is committed here yet: git add -A && git commit, then again") from error


def changed_files(root: Path) -> list[str]:
    """Return files that differ from the commit, untracked ones with them."""
    return [line[3:] for line in git(root, "status", "--porcelain", "--untracked-files=all").splitlines()]


def tags(root: Path) -> list[str]:
    """Return all tags, the oldest first."""
    return git(root, "tag", "--list", "--sort=creatordate").split()


def tag_commit(root: Path, tag: str) -> str | None:
    """Return the commit of a tag, None where there is no such tag."""
    try:
        return git(root, "rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}").strip()
    except WorkspaceError:
        return None


def need_tag(root: Path, tag: str) -> str:
    """Return the commit of a tag. Raises: UsageError naming those there are."""
    commit = tag_commit(root, tag)
    if commit is None:
        known = ", ".join(tags(root)[-10:]) or "none"
        raise UsageError(f"release {tag}: there is no such tag here; the tags are: {known}")
    return commit


def tag_message(root: Path, tag: str) -> str:
    """Return what an annotated tag says."""
    return git(root, "tag", "--list", "--format=%(contents)", tag)


def set_tag(root: Path, tag: str, commit: str, message: str) -> None:
    """Make an annotated tag: the one step that makes a release visible. Raises: WorkspaceError where it exists."""
    git(root, *_author(), "tag", "--annotate", "--message", message, tag, commit)


def commit_all(root: Path, message: str) -> str:
    """Commit everything that git sees in a tree and return the commit."""
    git(root, "add", "--all")
    git(root, *_author(), "commit", "--quiet", "--allow-empty", "--no-verify", "--message", message)
    return head(root)


def _author() -> list[str]:
    """Return options that give git a name where it has none."""
    given = os.environ.get("GIT_AUTHOR_NAME") and os.environ.get("GIT_COMMITTER_NAME")
    known = given or not subprocess.run(["git", "config", "user.email"], capture_output=True, check=False).returncode
    return [] if known else [o for k, v in _AUTHOR.items() for o in ("-c", f"user.{k}={v}")]


def take_commit(root: Path, clone: Path, commit: str) -> None:
    """Bring a clone's commit into this repository, without any name that would show it."""
    git(root, "fetch", "--quiet", "--no-tags", str(clone), commit)


def show(root: Path, commit: str, path: str) -> str | None:
    """Return a file as a commit has it, None where it has none."""
    try:
        return git(root, "show", f"{commit}:{path}")
    except WorkspaceError:
        return None
