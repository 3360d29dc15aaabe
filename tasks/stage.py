"""What every stage process does around its own work: parameters, lock, work folder, publishing, clear errors.

Anything that must survive a crash lies in `.work/<stage>/<hash of inputs and params>/` and is moved into place at
the end, because DVC deletes a stage's outputs before it runs the stage again.
"""

import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fetalflex.artifacts import atomic, read_json, tree_sha256, write_json, writing_folder
from fetalflex.errors import FetalFlexError, WorkspaceError
from fetalflex.params import Compute, Params
from tasks import fingerprints
from tasks.disk import telling_of_a_full_disk
from tasks.process import exclusive, fix_threads, watch_caller
from tasks.server import answering, prefect_settings, shared_server
from tasks.workspace import find_root, load_params

WORK = ".work"


@dataclass(frozen=True)
class StageRun:
    """One run of a stage: where it reads, where it keeps what must survive a crash, and its parameters."""

    name: str
    root: Path
    work: Path
    params: Params
    key: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def chunk(self, name: str) -> Path:
        """Return the folder of a chunk's results; it exists only when the chunk is finished."""
        return self.work / "chunks" / name

    @contextmanager
    def writing_chunk(self, name: str) -> Iterator[Path]:
        """Yield an empty folder that becomes `chunk(name)` when the block succeeds."""
        with writing_folder(self.chunk(name)) as partial:
            yield partial

    def once(self, name: str, make: Callable[[Path], Any]) -> Path:
        """Return `chunk(name)`, made by `make(folder)` unless an earlier run already finished it.

        One process at a time: a killed run's chunk may still be at work on a cluster, and is waited for.
        """
        with exclusive(self.work / "locks" / name, f"{name} is at work elsewhere", wait_s=math.inf):
            if not self.chunk(name).is_dir():
                with self.writing_chunk(name) as partial:
                    make(partial)
        return self.chunk(name)

    def publish(self, files: dict[str, Path]) -> None:
        """Copy finished files and folders to the stage's declared outputs, each of them whole or not at all.

        `files`: output path (as in dvc.yaml) -> what to put there. Raises: WorkspaceError for an output that
        dvc.yaml does not declare, or a declared one that is missing.
        """
        if set(files) != set(self.outputs):
            raise WorkspaceError(
                f"stage {self.name} publishes {sorted(files)}; dvc.yaml declares {sorted(self.outputs)}"
            )
        for output, source in files.items():
            _place(source, self.root / output)


def _place(source: Path, target: Path) -> None:
    """Copy (never link: DVC makes cached files read-only, and a link would make the work folder so too)."""
    if source.is_dir():
        with writing_folder(target) as partial:
            shutil.copytree(source, partial, dirs_exist_ok=True)
    else:
        with atomic(target) as partial:
            shutil.copyfile(source, partial)


@contextmanager
def open_stage(stage: str, item: str | None = None) -> Iterator[StageRun]:
    """Yield the run of a stage: lock held, work folder ready (with what an earlier run finished, if it was cut off).

    `item`: the center of an `ingest`. Raises: ParameterError, WorkspaceError.
    """
    watch_caller()
    root = find_root(Path.cwd())
    params = load_params(root)
    fix_threads(params.compute.threads)
    name = stage if item is None else f"{stage}@{item}"
    folder = root / WORK / name
    # A stage whose caller was just killed may need a moment to die.
    with exclusive(folder / "lock", f"stage {name} is already at work here: wait for it, or stop it", wait_s=10):
        definition = stage_definition(root, stage, item)
        inputs = definition["deps"]
        missing = [d for d in inputs if not (root / d).exists()]
        if missing:
            raise WorkspaceError(
                f"stage {name}: input {missing[0]} is missing: run 'fetalflex run' to make what it needs"
            )
        key = _inputs_hash(root, definition)
        for old in folder.iterdir():  # results of other inputs can never be used again
            if old.is_dir() and old.name != key:
                shutil.rmtree(old)
        work = folder / key
        work.mkdir(exist_ok=True)
        yield StageRun(name, root, work, params, key, tuple(definition["deps"]), tuple(definition["outs"]))


def _inputs_hash(root: Path, definition: dict[str, Any]) -> str:
    values = [tree_sha256(root / d for d in definition["deps"]), definition["params"], definition["fingerprints"]]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def stage_definition(root: Path, stage: str, item: str | None = None) -> dict[str, Any]:
    """Return what dvc.yaml says of a stage: `deps` without source code, `outs`, values of its `params`, `fingerprints`.

    The code's own fingerprint is always among the last, however dvc.yaml names the code.
    """
    raw = yaml.safe_load((root / "dvc.yaml").read_text())["stages"][stage]
    values = yaml.safe_load((root / "params.yaml").read_text())
    if item is not None:
        folder = values["ingest"]["centers"].get(item)
        if folder is None:
            raise WorkspaceError(f"center {item!r} is not in ingest.centers of params.yaml; add it there")
        text = json.dumps(raw["do"]).replace("${key}", item).replace("${item}", folder)
        raw = json.loads(text)
    names = [p for p in raw.get("params", []) if isinstance(p, str)]
    deps = [d for d in raw["deps"] if not is_source(d)]
    outs = [next(iter(o)) if isinstance(o, dict) else o for o in raw.get("outs", []) + raw.get("metrics", [])]
    prints: dict[str, Any] = {
        "libraries": fingerprints.library_versions(),
        "code": fingerprints.code_fingerprint(stage),
    }
    recorded = fingerprints.read(root)
    if stage == "ingest":
        prints["key"] = recorded.get("key")
    if stage in recorded.get("weights", {}):
        prints["weights"] = recorded["weights"][stage]
    return {
        "deps": deps,
        "outs": outs,
        "params": {name: _lookup(values, name) for name in names},
        "fingerprints": prints,
    }


def stage_names(root: Path) -> list[str]:
    """Return the names of the stages in dvc.yaml, without centers."""
    return list(yaml.safe_load((root / "dvc.yaml").read_text())["stages"])


def is_source(dependency: str) -> bool:
    """Return whether a dependency of dvc.yaml is code of ours."""
    return dependency.split("/")[0] in fingerprints.PACKAGES


def _lookup(values: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def clean_work(root: Path, name: str) -> None:
    """Remove a stage's work folder; only called when dvc.lock shows the stage's outputs."""
    folder = root / WORK / name
    if folder.is_dir():
        for old in folder.iterdir():
            if old.is_dir():
                shutil.rmtree(old)


def error_file(root: Path, name: str) -> Path:
    """Return the file in which a failing stage leaves its one line for the walk."""
    return root / WORK / f"{name}.error.json"


def run_stage(stage: str, flow: Callable[[Compute], Any], item: str | None = None) -> None:
    """Run a stage's flow as the process's main job; an expected error becomes one line and an exit code."""
    name = stage if item is None else f"{stage}@{item}"
    try:
        root = find_root(Path.cwd())
        error_file(root, name).unlink(missing_ok=True)
        with telling_of_a_full_disk(), shared_server(root) as server, prefect_settings(server), answering():
            flow(load_params(root).compute)
    except FetalFlexError as error:
        _fail(name, str(error), error.exit_code)


def _fail(name: str, message: str, code: int) -> None:
    line = " ".join(message.split()).removeprefix(f"{name}: ")
    with suppress(OSError, FetalFlexError):  # on a full disk the line on standard error must do: the walk reads it
        path = error_file(find_root(Path.cwd()), name)
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"stage": name, "message": line})
    print(f"{name}: {line}", file=sys.stderr, flush=True)
    sys.stderr.flush()
    os._exit(code)  # not sys.exit: Prefect's threads would otherwise print what was said already


def read_error(root: Path, name: str) -> str | None:
    """Return the line that a failed stage left, or None."""
    path = error_file(root, name)
    return str(read_json(path)["message"]) if path.is_file() else None
