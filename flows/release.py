"""Releases: made as a transaction, and verified on demand or by schedule."""

from pathlib import Path

from tasks.process import exclusive
from tasks.progress import console
from tasks.releasing.make import Released, make_release
from tasks.releasing.verify import Proof, verify_release
from tasks.workspace import check_ready, state_folder

BUSY = "another run is at work in this workspace: wait for it to end, or stop it"


def say(text: str) -> None:
    """Tell a person what is at work."""
    console.print(f"  {text}", markup=False)


def run_release(root: Path, tag: str, *, allow_failing: bool) -> Released:
    """Release what is committed. Raises: FetalFlexError; nothing is visible then."""
    check_ready(root)
    with exclusive(state_folder(root) / "run.lock", BUSY):
        return make_release(root, tag, allow_failing=allow_failing, say=say)


def run_verification(root: Path, tag: str, images: int | None, seed: int) -> Proof:
    """Prove a release beside whatever else is at work: it is read alone. Raises: FetalFlexError."""
    check_ready(root)
    with exclusive(state_folder(root) / "verify.lock", "another verification is at work here: wait for it to end"):
        return verify_release(root, tag, images, seed, say)
