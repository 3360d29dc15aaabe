"""The report page, made by the walk after the stages."""

from pathlib import Path
from typing import Any


def write_report(root: Path, stages: list[dict[str, Any]]) -> Path | None:
    """Placeholder until the page is wired."""
    return None
