"""When the report's page stays as it is, and when it is written anew."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.pagekeeping import current_page, note_page


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    """A workspace's folder whose page was written of what is there."""
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    for name in ("params.yaml", "dvc.lock", "centers/north.yaml", "reports/index.html", "reports/quality.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    note_page(tmp_path, tmp_path / "reports/index.html")
    return tmp_path


def test_a_page_of_this_very_state_stays(noted: Path) -> None:
    assert current_page(noted) == noted / "reports/index.html"


def _commit(root: Path) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *who, "commit", "-q", "--allow-empty", "-m", "x"], cwd=root, check=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "reports/index.html").unlink(),
        lambda root: (root / "reports/quality.html").unlink(),
        lambda root: (root / "dvc.lock").write_text("other"),
        lambda root: (root / "centers/north.yaml").write_text("other"),
        lambda root: (root / "centers/south.yaml").write_text("new"),
        _commit,
    ],
    ids=["page gone", "quality gone", "data", "profile", "center", "commit"],
)
def test_a_page_of_another_state_is_not_current(noted: Path, change: Callable[[Path], object]) -> None:
    change(noted)
    assert current_page(noted) is None


def test_no_page_is_current_before_the_first_is_written(tmp_path: Path) -> None:
    assert current_page(tmp_path) is None
