"""The command line: help worth reading, errors of one line, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from fetalflex.errors import SourceError
from fetalflex.params import preset_text
from flows.cli import app
from tests.fetalflex.dicom.samples import write_image

ROOT = Path(__file__).parents[2]
COMMANDS = [
    "run",
    "status",
    "init",
    "params",
    "import",
    "onboard",
    "deidentify",
    "ui",
    "generate",
    "edit",
    "export-model",
]


def _fail(folder: Path, *arguments: str) -> tuple[int, list[str]]:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    env.pop("FETALFLEX_KEY", None)
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.strip().splitlines()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "flows.cli", "init", str(tmp_path / "ws"), "--preset", "tiny"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return tmp_path / "ws"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert len(result.output) > 200


def test_outside_a_workspace_one_line_says_what_to_do(tmp_path: Path) -> None:
    code, lines = _fail(tmp_path, "run")
    assert (code, len(lines)) == (1, 1)
    assert "fetalflex init" in lines[0]


def test_no_git_repository(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(preset_text("tiny"))
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    code, lines = _fail(tmp_path, "run")
    assert (code, len(lines)) == (1, 1)
    assert "git init" in lines[0]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("normal: 8", "nromal: 8", "sample.nromal"),
        ("steps: 8", "steps: many", "prealign.steps"),
        ("steps: 8", "steps: -1", "prealign.steps"),
    ],
)
def test_a_wrong_parameter_is_named(workspace: Path, old: str, new: str, said: str) -> None:
    path = workspace / "params.yaml"
    path.write_text(path.read_text().replace(old, new, 1))
    code, lines = _fail(workspace, "run")
    assert (code, len(lines)) == (2, 1)
    assert said in lines[0]


def test_a_missing_center_profile_is_named(workspace: Path) -> None:
    (workspace / "centers/phantom-tiny-a.yaml").unlink()
    code, lines = _fail(workspace, "run")
    assert (code, len(lines)) == (2, 1)
    assert "phantom-tiny-a.yaml" in lines[0]


def _real_center(workspace: Path, make: object) -> None:
    profile = workspace / "centers/phantom-tiny-a.yaml"
    profile.write_text("title: A hospital\nlicence: none\n")
    params = workspace / "params.yaml"
    params.write_text(params.read_text().replace("    phantom-tiny-b: frames\n", ""))


def test_real_data_without_a_key_asks_for_one(workspace: Path) -> None:
    _real_center(workspace, None)
    code, lines = _fail(workspace, "run")
    assert (code, len(lines)) == (2, 1)
    assert "FETALFLEX_KEY" in lines[0]


@pytest.mark.parametrize("empty", [False, True])
def test_a_missing_or_empty_center_folder_is_named(workspace: Path, empty: bool) -> None:
    _real_center(workspace, None)
    (workspace / ".fetalflex").mkdir()
    (workspace / ".fetalflex/key").write_text("0123456789abcdef0123456789abcdef")
    if empty:
        (workspace / "incoming/phantom-tiny-a").mkdir(parents=True)
    code, lines = _fail(workspace, "run")
    assert (code, len(lines)) == (1, 1)
    assert "phantom-tiny-a" in lines[0]


def test_a_source_that_is_not_the_set_changes_nothing(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    before = (workspace / "params.yaml").read_text()
    code, lines = _fail(workspace, "import", "hc18", str(tmp_path / "other"), "--center", "nijmegen")
    assert (code, len(lines)) == (1, 1)
    assert (workspace / "params.yaml").read_text() == before
    assert not (workspace / "incoming/nijmegen").exists()


def test_an_unknown_set_lists_the_known_ones(workspace: Path) -> None:
    code, lines = _fail(workspace, "import", "hc19", ".", "--center", "x")
    assert code == 1 or code == 2
    assert "hc18" in lines[-1]


def test_status_before_the_first_run_says_that_everything_is_stale(workspace: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "status", "--json"],
        cwd=workspace,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert not found["clean"]
    assert all(found["stages"].values())
    assert not (workspace / "incoming").exists()
    assert not (workspace / "fingerprints.yaml").exists()


def test_deidentify_without_a_key_says_so_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("no image")
    code, lines = _fail(tmp_path, "deidentify", "in", "out")
    assert (code, len(lines)) == (2, 1)
    assert "no pseudonym key" in lines[0]
    assert not (tmp_path / "out").exists()


def test_deidentify_writes_a_report_and_fails_where_nothing_could_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FETALFLEX_KEY", "a secret of the tests only")
    (tmp_path / "profile.yaml").write_text(
        "title: Made\nlicence: none\nplanes:\n  abdo ac: abdomen\ndeidentify:\n  dates: remove\n"
    )
    write_image(tmp_path / "in" / "jones.dcm", 1, series_description="Abdo AC of Jones")
    (tmp_path / "in" / "letter to jones.txt").write_text("no image")
    command = ["deidentify", "in", "out", "--profile", "profile.yaml", "--report", "report.json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["outcomes"] == {"not_dicom": 1, "written": 1}
    assert "jones" not in json.dumps(report).lower()
    (output,) = (tmp_path / "out").rglob("*.dcm")
    data = dcmread(output)
    assert (data.SeriesDescription, data.StudyDate) == ("abdo ac", "")
    with pytest.raises(SourceError, match="none of the files"):
        CliRunner().invoke(app, ["deidentify", "in/letter to jones.txt", "other"], catch_exceptions=False)
