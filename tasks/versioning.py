"""DVC, driven through its command line only (its Python internals have broken every project that imported them)."""

import hashlib
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from fetalflex.artifacts import atomic, read_json, write_json
from fetalflex.errors import ArtifactError, StageError, WorkspaceError
from tasks.lockfile import keep_lock, mend_lock
from tasks.process import die_with_parent
from tasks.progress import terminal_environment
from tasks.workspace import state_folder

_NODE = re.compile(r'^"([^"]+)";$', re.MULTILINE)
_EDGE = re.compile(r'^"([^"]+)" -> "([^"]+)";$', re.MULTILINE)


def _dvc(root: Path, *arguments: str) -> str:
    """Run dvc quietly and return its output. Raises: WorkspaceError with dvc's own last line."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=root,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise WorkspaceError(f"dvc {arguments[0]} failed: {lines[-1] if lines else 'no message'}")
    return done.stdout


def _environment() -> dict[str, str]:
    """Return the environment for dvc: its stages must find this very Python as `python`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1"}


def graph(root: Path) -> dict[str, list[str]]:
    """Return every stage with the stages it needs, in an order in which they can run."""
    dot = _dvc(root, "dag", "--dot")
    needs: dict[str, list[str]] = {name: [] for name in _NODE.findall(dot)}
    for source, target in _EDGE.findall(dot):
        needs[target].append(source)
    return _sorted(needs)


def known_graph(root: Path) -> dict[str, list[str]]:
    """Return `graph`, remembered in the workspace's state for as long as the files that it comes from are the same."""
    kept, key = state_folder(root) / "graph.json", _graph_key(root)
    if kept.is_file():
        with suppress(ArtifactError):
            found = read_json(kept)
            if found["key"] == key:
                return dict(found["graph"])
    value = graph(root)
    write_json(kept, {"key": key, "graph": list(value.items())})
    return value


def _graph_key(root: Path) -> str:
    digest = hashlib.sha256(f"{metadata.version('dvc')}\n".encode())
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*dvc.yaml", "*.dvc"]
    done = subprocess.run(asked, cwd=root, capture_output=True, check=True)
    for name in sorted({"dvc.yaml", "params.yaml", *filter(None, os.fsdecode(done.stdout).split("\0"))}):
        content = (root / name).read_bytes() if (root / name).is_file() else b""
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _sorted(needs: dict[str, list[str]]) -> dict[str, list[str]]:
    done: dict[str, list[str]] = {}
    while len(done) < len(needs):
        ready = [n for n in needs if n not in done and all(m in done for m in needs[n])]
        if not ready:
            raise WorkspaceError("dvc.yaml holds a circle of stages; see 'dvc dag'")
        done |= {name: sorted(needs[name]) for name in ready}
    return done


def status(root: Path, *stages: str) -> dict[str, list[str]]:
    """Return the stages that are not up to date, each with its reasons in words. Runs nothing, writes nothing."""
    changes: dict[str, list[Any]] = json.loads(_dvc(root, "status", "--json", *stages))
    return {name: [reason for change in found for reason in _reasons(change)] for name, found in changes.items()}


def _reasons(change: Any) -> list[str]:
    if isinstance(change, str):
        return [change]
    found = []
    for kind, items in change.items():
        for path, what in items.items():
            if isinstance(what, dict):
                found += [f"{value} {path}: {key}" for key, value in what.items()]
            else:
                found.append(f"{kind.removeprefix('changed ')} {path}: {what}")
    return found


def repro(root: Path, stage: str, *, force: bool = False) -> None:
    """Bring one stage up to date. The stage's progress goes to the terminal; dvc's own chatter to `.work/dvc.log`.

    dvc dies with this process, and the stage with dvc. Raises: StageError naming the stage, with dvc's last word.
    """
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", *(["--force"] if force else []), stage]
    keep_lock(root)
    log = root / ".work" / "dvc.log"
    log.parent.mkdir(exist_ok=True)
    with (
        log.open("w") as out,
        subprocess.Popen(
            command, cwd=root, env=_environment() | terminal_environment(), stdout=out, stderr=subprocess.PIPE,
            preexec_fn=die_with_parent,
        ) as process,
    ):  # fmt: skip
        said = _pass_on(process, stage)
        code = process.wait()
    if code < 0:
        mend_lock(root)
        raise StageError(
            f"stage {stage}: dvc was killed by signal {-code}; 'fetalflex run' goes on from where it stopped"
        )
    if code:
        raise StageError(f"stage {stage} failed: {said or f'dvc ended with {code}'}")


def _pass_on(process: "subprocess.Popen[bytes]", stage: str) -> str:
    """Hand what dvc and its stage say on to the terminal as it comes; return the stage's last line, or dvc's error.

    The stage's own record of its error is better; on a full disk it could not be written.
    """
    tail = b""
    while process.stderr is not None and (piece := os.read(process.stderr.fileno(), 65536)):
        sys.stderr.write(piece.decode(errors="replace"))
        sys.stderr.flush()
        tail = (tail + piece)[-4096:]
    lines = tail.decode(errors="replace").splitlines()
    for start in (f"{stage}: ", "ERROR: "):
        if found := [line for line in lines if line.startswith(start)]:
            return found[-1].removeprefix(start)
    return ""


def lock_entry(root: Path, stage: str) -> dict[str, Any] | None:
    """Return what dvc.lock says of a stage, or None where it never finished."""
    path = root / "dvc.lock"
    entries = (yaml.safe_load(path.read_text()) or {}).get("stages", {}) if path.is_file() else {}
    found = entries.get(stage)
    return dict(found) if found else None


def data_version(root: Path) -> str:
    """Return a short hash of dvc.lock: the version of all data and models together."""
    from fetalflex.artifacts import file_sha256

    path = root / "dvc.lock"
    return file_sha256(path)[:12] if path.is_file() else "none"


def restore(root: Path, *outputs: str) -> bool:
    """Fetch outputs that dvc.lock knows from the cache, or else from the remote; return whether they are there now."""
    for command in (("checkout", *outputs), ("pull", *outputs)):
        try:
            _dvc(root, *command)
        except WorkspaceError:
            continue
        return all((root / o).exists() for o in outputs)
    return False


def outputs(root: Path, stage: str) -> list[str]:
    """Return a stage's output paths as dvc.lock has them (empty where it never finished)."""
    entry = lock_entry(root, stage)
    return [str(out["path"]) for out in (entry or {}).get("outs", [])]


def tracked(root: Path) -> dict[str, str]:
    """Return every path that DVC versions in a tree -> its MD5 (of a folder with `.dir`): of dvc.lock and `*.dvc`."""
    found: dict[str, str] = {}
    path = root / "dvc.lock"
    entries = (yaml.safe_load(path.read_text()) or {}).get("stages", {}) if path.is_file() else {}
    for entry in entries.values():
        found |= {out["path"]: out["md5"] for out in entry.get("outs", [])}
    for file in sorted(root.glob("release/*.dvc")):
        for out in yaml.safe_load(file.read_text())["outs"]:
            found[(file.parent / out["path"]).relative_to(root).as_posix()] = out["md5"]
    return found


def remotes(root: Path) -> dict[str, str]:
    """Return name -> address of all remotes, the default one first."""
    lines = [line.removesuffix("(default)").split(None, 1) for line in _dvc(root, "remote", "list").splitlines()]
    found = {name: url.strip() for name, url in (line for line in lines if len(line) == 2)}
    default = _config(root, "core.remote")
    return dict(sorted(found.items(), key=lambda item: item[0] != default))


def _config(root: Path, name: str) -> str:
    """Return a value of dvc's configuration, empty where it is not set."""
    try:
        return _dvc(root, "config", name).strip()
    except WorkspaceError:
        return ""


def cache_folder(root: Path) -> Path:
    """Return the folder of DVC's cache."""
    return (root / _dvc(root, "cache", "dir").strip()).resolve()


def use_cache(root: Path, folder: Path) -> None:
    """Make a clone use another cache, by its local configuration alone."""
    _dvc(root, "cache", "dir", "--local", str(folder))


def use_remote(root: Path, name: str, url: str) -> None:
    """Give a remote another address, by the local configuration alone."""
    _dvc(root, "remote", "modify", "--local", name, "url", url)


def add_remote(root: Path, url: str) -> None:
    """Make an address the default remote."""
    _dvc(root, "remote", "add", "--force", "--default", "storage", url)


def add(root: Path, path: str) -> None:
    """Version a folder beside the stages."""
    _dvc(root, "add", "--quiet", path)


def checkout(root: Path, *targets: str) -> None:
    """Bring outputs from the cache into the tree. Raises: WorkspaceError where the cache lacks one."""
    _dvc(root, "checkout", "--quiet", "--force", *targets)


def push(root: Path, *targets: str) -> None:
    """Send to the default remote what it lacks. Raises: WorkspaceError."""
    _dvc(root, "push", "--quiet", *targets)


def fetch(root: Path, *targets: str) -> None:
    """Bring objects from the default remote into the cache. Raises: WorkspaceError."""
    _dvc(root, "fetch", "--quiet", *targets)


def pull(root: Path, *targets: str) -> None:
    """Bring outputs from cache or remote into the tree. Raises: WorkspaceError where one is in neither."""
    _dvc(root, "pull", "--quiet", "--force", *targets)


def collect_garbage(root: Path) -> None:
    """Remove from cache and remote every object that neither this tree nor a git tag of it uses."""
    _dvc(root, "gc", "--workspace", "--all-tags", "--cloud", "--force", "--quiet")


def forget(root: Path, stage: str) -> None:
    """Take a stage that has left the chain out of dvc.lock."""
    path = root / "dvc.lock"
    entries = yaml.safe_load(path.read_text()) if path.is_file() else {}
    if (entries or {}).get("stages", {}).pop(stage, None) is not None:
        with atomic(path) as partial:
            partial.write_text(yaml.safe_dump(entries, sort_keys=False))


def locked(root: Path) -> list[str]:
    """Return the stages that dvc.lock knows."""
    path = root / "dvc.lock"
    return list((yaml.safe_load(path.read_text()) or {}).get("stages", {})) if path.is_file() else []
