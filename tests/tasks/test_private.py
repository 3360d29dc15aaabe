"""The private folder: its owner's alone, and gone with the decision or with the process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.private import private_folder, write_private


def test_only_the_owner_reads_and_all_is_gone_after(tmp_path: Path) -> None:
    with private_folder(tmp_path, "north") as folder:
        write_private(folder / "index.html", "secret")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert folder.parent.stat().st_mode & 0o777 == 0o700
        assert (folder / "index.html").stat().st_mode & 0o777 == 0o600
    assert not folder.exists()


def test_a_file_that_others_could_read_is_closed_when_written_again(tmp_path: Path) -> None:
    path = tmp_path / "draft.yaml"
    path.write_text("old and longer")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_a_lost_machine_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".fetalflex/onboarding/north/index.html"
    left.parent.mkdir(parents=True)
    left.write_text("secret")
    with private_folder(tmp_path, "north") as folder:
        assert list(folder.iterdir()) == []


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted() -> None:
        with private_folder(tmp_path, "north") as folder:
            write_private(folder / "index.html", "secret")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not (tmp_path / ".fetalflex/onboarding/north").exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_leaves_no_page(tmp_path: Path, how: signal.Signals) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom tasks.private import private_folder, write_private\n"
        "with private_folder(Path(sys.argv[1]), 'north') as folder:\n"
        "    write_private(folder / 'index.html', 'secret')\n    print('ready', flush=True)\n    time.sleep(600)\n"
    )
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(root)}
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        page = tmp_path / ".fetalflex/onboarding/north/index.html"
        assert page.is_file()
        process.send_signal(how)
        process.wait()
        deadline = time.monotonic() + 20
        while page.parent.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
    assert not page.parent.exists()
