"""The workspace that a command stands in: its root, its parameters, and what must be there before work begins."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML

from fetalflex.artifacts import atomic
from fetalflex.deid.keys import PseudonymKey, read_key
from fetalflex.errors import ParameterError, UsageError, WorkspaceError
from fetalflex.params import Center, Params, embedded_center_text, preset_text, read_center, read_params

INCOMING = "incoming"
MINIMUM_FREE_BYTES = 500 * 2**20


def find_root(start: Path) -> Path:
    """Return the nearest folder upward of `start` that holds params.yaml and dvc.yaml. Raises: WorkspaceError."""
    for folder in (start, *start.parents):
        if (folder / "params.yaml").is_file() and (folder / "dvc.yaml").is_file():
            return folder
    raise WorkspaceError(
        "no workspace here: no params.yaml and dvc.yaml in this folder or above; make one with 'fetalflex init DIR'"
    )


def load_params(root: Path) -> Params:
    """Read the workspace's parameters and hold the centers' profiles against them. Raises: ParameterError."""
    return read_params(root / "params.yaml")


def load_center(root: Path, name: str) -> Center:
    """Read a center's profile. Raises: ParameterError."""
    return read_center(root / "centers" / f"{name}.yaml")


def raw_folder(root: Path, center: str) -> Path:
    """Return where a center's raw files lie."""
    return root / INCOMING / center


def manifest_path(root: Path, center: str) -> Path:
    """Return the manifest of a center's raw files."""
    return root / INCOMING / f"{center}.manifest"


def raw_is_absent(root: Path, stage: str) -> bool:
    """Return whether this is a stage of one center (`name@center`) whose raw files are not on this machine."""
    _, _, center = stage.partition("@")
    return bool(center) and manifest_path(root, center).is_file() and not raw_folder(root, center).is_dir()


def workspace_key(root: Path, params: Params) -> PseudonymKey:
    """Return the pseudonym key; the public demo key only where every center is embedded. Raises: MissingSecretError."""
    embedded = all(load_center(root, name).phantom is not None for name in params.ingest.centers)
    return read_key(root, allow_demo=embedded)


def check_ready(root: Path) -> None:
    """Check what every run needs: git, DVC and free space. Raises: WorkspaceError with what to do."""
    git = subprocess.run(["git", "-C", str(root), "rev-parse", "--git-dir"], capture_output=True, check=False)
    if git.returncode:
        raise WorkspaceError("no git repository here: run 'git init' in the workspace (DVC keeps versions beside git)")
    if not (root / ".dvc").is_dir():
        raise WorkspaceError("no DVC repository here: run 'dvc init' in the workspace")
    free = shutil.disk_usage(root).free
    if free < MINIMUM_FREE_BYTES:
        raise WorkspaceError(
            f"only {free / 2**20:.0f} MiB are free on the workspace's disk; a run needs at least "
            f"{MINIMUM_FREE_BYTES / 2**20:.0f} MiB: free some space (old caches: 'dvc gc -w') and run again"
        )


def state_folder(root: Path) -> Path:
    """Return the ignored folder of the services' own state (Prefect's and MLflow's databases, locks)."""
    folder = root / ".fetalflex"
    folder.mkdir(exist_ok=True)
    return folder


def git_commit(root: Path) -> tuple[str, bool]:
    """Return the commit (`none` before the first) and whether tracked files differ from it."""
    head = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(
        ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return (head.stdout.strip() if head.returncode == 0 else "none"), bool(dirty.stdout.strip())


def create_workspace(directory: Path, preset: str, remote: str = "") -> None:
    """Make a dataset's own workspace with git and DVC. Raises: UsageError for a folder that holds something.

    `remote`: where releases keep their data; empty: a folder beside the workspace, made when something is sent there.
    """
    if directory.exists() and any(directory.iterdir()):
        raise UsageError(f"{directory} is not empty: name a new folder")
    values = preset_text(preset)  # an unknown preset must fail before anything is made
    directory.mkdir(parents=True, exist_ok=True)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
        if done.returncode:
            raise WorkspaceError(f"{' '.join(command[-3:])} failed: {' '.join(done.stderr.split())}")
    home = directory.resolve()
    (directory / ".dvc" / "config").write_text(_DVC_CONFIG.format(url=remote or home.with_name(f"{home.name}.remote")))
    (directory / ".gitignore").write_text(_IGNORED)
    (directory / ".dvcignore").write_text("__pycache__\n*.pyc\n.work\n.fetalflex\n")
    (directory / "dvc.yaml").write_text(workspace_chain(software_text("dvc.yaml")))
    (directory / "prefect.yaml").write_text(software_text("prefect.yaml"))
    (directory / "params.yaml").write_text(values)
    _write_centers(directory)
    keep_test_only(directory)


def keep_test_only(root: Path) -> None:
    """Have a folder for `test_only` centers, with a note in git: DVC needs it where there is no such center."""
    note = root / "data" / "test_only" / "README.md"
    if not note.is_file():
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(_TEST_ONLY)


_TEST_ONLY = """# Test only

Frames of centers with the role `test_only`, such as real abnormal images. No stage that trains reads them; `evaluate`
tests on those whose finding is known. Their files are versioned by DVC, this note by git.
"""
_DVC_CONFIG = """[core]
    analytics = false
    check_update = false
    remote = storage
['remote "storage"']
    url = {url}
"""
_IGNORED = """# Raw data, outputs (versioned by DVC) and the services' state are never in git.
/incoming/*/
/data/*
!/data/test_only/
/data/test_only/*
!/data/test_only/README.md
/models/
/reports/
/.work/
/.fetalflex/
"""


def software_text(name: str) -> str:
    """Return the text of a file of the software's root, from the checkout or from inside an installed package."""
    here = Path(__file__).resolve().parents[1]
    for path in (here / name, here / "flows" / "templates" / name):
        if path.is_file():
            return path.read_text()
    raise WorkspaceError(f"the software's {name} is missing: install fetalflex again")


def workspace_chain(text: str) -> str:
    """Turn the checkout's dvc.yaml into a workspace's: code by path becomes the stage's code fingerprint.

    >>> "flows/" in workspace_chain("stages: {gate: {cmd: x, deps: [flows/gate.py, reports/q.json], params: [gate]}}")
    False
    """
    chain = yaml.safe_load(text)
    for name, stage in chain["stages"].items():
        body = stage.get("do", stage)
        body["deps"] = [d for d in body["deps"] if d.split("/")[0] not in ("flows", "tasks", "fetalflex")]
        params = body.setdefault("params", [])
        own = next((p for p in params if isinstance(p, dict) and "fingerprints.yaml" in p), None)
        if own is None:
            own = {"fingerprints.yaml": []}
            params.append(own)
        own["fingerprints.yaml"].append(f"code.{name}")
    return "# Made by 'fetalflex init'. The chain, written once; code enters by fingerprints.\n" + yaml.safe_dump(
        chain, sort_keys=False, width=120
    )


def write_preset(root: Path, preset: str) -> None:
    """Write a preset's values into params.yaml, and the profiles of embedded centers it names where missing."""
    text = preset_text(preset)
    with atomic(root / "params.yaml") as partial:
        partial.write_text(text)
    _write_centers(root)


def _write_centers(root: Path) -> None:
    (root / "centers").mkdir(exist_ok=True)
    for name in load_params(root).ingest.centers:
        path = root / "centers" / f"{name}.yaml"
        if not path.is_file():
            path.write_text(embedded_center_text(name))


def check_role(name: str, folder: str, profile: Center) -> None:
    """Hold a center's role against the folder under data/ that its frames go to. Raises: ParameterError."""
    expected = "test_only" if profile.role == "test_only" else "frames"
    if folder != expected:
        raise ParameterError(
            f"params.yaml: ingest.centers.{name}: found {folder!r}, but centers/{name}.yaml has the role "
            f"{profile.role!r}: expected {expected!r}"
        )


def add_center(root: Path, name: str, profile: dict[str, Any], folder: str) -> None:
    """Write a center's profile (or join it with the one there is) and list the center in params.yaml.

    Comments are kept. Of a profile that exists, words for planes and the licence are completed, nothing is replaced.
    Raises: UsageError where the roles differ.
    """
    path = root / "centers" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    if path.is_file():
        known = yaml.safe_load(path.read_text())
        if known.get("role", "normal") != profile["role"]:
            raise UsageError(
                f"centers/{name}.yaml has the role {known.get('role', 'normal')!r}, the set {profile['role']!r}"
            )
        licences = dict.fromkeys([known["licence"], profile["licence"]])
        profile = {**profile, **known, "planes": profile.get("planes", {}) | known.get("planes", {})}
        profile["licence"] = "; ".join(licences)
    add_center_text(root, name, yaml.safe_dump(profile, sort_keys=False, width=120), folder)


def add_center_text(root: Path, name: str, text: str, folder: str) -> None:
    """Write a center's profile as it stands and list the center in params.yaml, comments kept."""
    path = root / "centers" / f"{name}.yaml"
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 120  # as presets are written: other lines stay as they are
    values = editor.load((root / "params.yaml").read_text())
    if values["ingest"]["centers"].get(name) == folder:
        return
    values["ingest"]["centers"][name] = folder
    with atomic(root / "params.yaml") as partial, partial.open("w") as stream:
        editor.dump(values, stream)
