"""A public set becomes a center: its files in `incoming/`, its profile in `centers/`, its name in params.yaml."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from fetalflex.errors import UsageError
from fetalflex.sources.wrap import draft_center, import_set
from tasks.progress import bar
from tasks.workspace import add_center, raw_folder


@dataclass(frozen=True)
class Imported:
    """A center that an import made."""

    name: str
    files: int


def import_center(root: Path, name: str, source: Path, center: str, country: str | None = None) -> list[Imported]:
    """Import a public set into `incoming/<center>/<set>`; every center appears whole or not at all.

    Several sets may go into one center, where they show the same patients (the two Barcelona sets do).
    Raises: SourceError where `source` is not that set; UsageError where the center holds that set already.
    """
    staging = root / ".work" / "import" / center
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    with bar(f"import {name}", 1) as shown:
        for step in import_set(name, source, staging, center, country=country):
            shown.total = step.total
            shown.advance()
    made = sorted(p for p in staging.iterdir() if p.is_dir())
    taken = [p.name for p in made if (raw_folder(root, p.name) / name).exists()]
    if taken:
        where = f"incoming/{taken[0]}/{name}"
        raise UsageError(f"{where} exists: choose another --center, or remove that folder to import again")
    result = []
    for folder in made:
        profile = draft_center(name, folder.name)
        target = raw_folder(root, folder.name) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)
        add_center(root, folder.name, profile, "test_only" if profile["role"] == "test_only" else "frames")
        result.append(Imported(folder.name, sum(1 for p in target.rglob("*") if p.is_file())))
    shutil.rmtree(staging)
    return result
