"""What the studio may show of a workspace: the cases of its training group, de-identified, as the model sees them."""

from functools import cached_property
from pathlib import Path

import numpy as np

from fetalflex.anatomy.layout import Layout
from fetalflex.anatomy.ontology import PLANE_NAMES
from fetalflex.dataset import Cases
from fetalflex.errors import UsageError
from fetalflex.studio.starts import CaseEntry
from fetalflex.synthesis.picture import Picture
from tasks.cases import read_cases
from tasks.workspace import load_params

MOST = 200


class WorkspaceCases:
    """Cases of the training group: those of other patients are for measuring."""

    def __init__(self, root: Path) -> None:
        """Read them from a workspace when they are first asked for."""
        self._root = root

    @cached_property
    def _cases(self) -> Cases:
        return read_cases(self._root, load_params(self._root)).of_group("train")

    def planes(self) -> tuple[str, ...]:
        """Return the planes of these cases."""
        return tuple(PLANE_NAMES[i] for i in np.unique(self._cases.planes) if PLANE_NAMES[i] != "unknown")

    def listed(self) -> list[CaseEntry]:
        """Return cases that have an outline, at most `MOST` and as many of each plane and center as there are."""
        cases = self._cases
        outlined = [i for i in range(len(cases)) if cases.sources[i].any()]
        groups: dict[tuple[str, str], list[CaseEntry]] = {}
        for i in outlined:
            entry = CaseEntry(str(cases.ids[i]), PLANE_NAMES[int(cases.planes[i])], str(cases.centers[i]))
            groups.setdefault((entry.plane, entry.center), []).append(entry)
        share = max(1, MOST // max(1, len(groups)))
        return [entry for key in sorted(groups) for entry in groups[key][:share]]

    def open(self, case_id: str) -> tuple[Picture, Layout]:
        """Return a case's image and layout on the model's canvas. Raises: UsageError where there is none of that id."""
        found = np.nonzero(self._cases.ids == case_id)[0]
        if not len(found):
            raise UsageError("there is no such case in the training group; load the page again for the list")
        index = int(found[0])
        spacing = float(self._cases.spacings[index])
        return Picture(self._cases.images[index], spacing if np.isfinite(spacing) else None), self._cases.layout(index)
