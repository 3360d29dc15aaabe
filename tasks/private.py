"""The private folder of an onboarding: its page shows identifiers, so it is its owner's alone and never outlives him.

It is removed with the decision, and also when the process that made it is killed: a small guard process waits for that.
Only a machine that loses its power can leave it behind; then the next onboarding removes it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.workspace import state_folder

FOLDER, PAGE, DRAFT = "onboarding", "index.html", "draft.yaml"
# Reads until the pipe closes, which the kernel does when the onboarding ends, however it ends.
_GUARD = "import shutil, sys; sys.stdin.buffer.read(); shutil.rmtree(sys.argv[1], ignore_errors=True)"


@contextmanager
def private_folder(root: Path, center: str) -> Iterator[Path]:
    """Yield `.fetalflex/onboarding/CENTER`, empty, mode 0700; it is gone after the block or with the process."""
    folder = state_folder(root) / FOLDER / center
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    folder.parent.chmod(0o700)
    folder.mkdir(mode=0o700)
    folder.chmod(0o700)
    guard = subprocess.Popen(
        [sys.executable, "-I", "-c", _GUARD, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        if guard.stdin is not None:
            guard.stdin.close()
        guard.wait()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, from its first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.write(text)
