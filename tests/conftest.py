"""Fixtures that many tests share: the folder of real data, and a dozen synthetic cases."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from fetalflex.anatomy.ontology import STRUCTURE_NAMES, plane_index, structure_index
from fetalflex.dataset import EXPERT, EXPERT_BOX, Cases
from tasks.server import Server

# Derandomized and without a database: a test that passes here passes everywhere, at the next run too.
settings.register_profile("fetalflex", deadline=None, derandomize=True, max_examples=50, database=None)
settings.load_profile("fetalflex")

SIDE = 32
MANY = 12
SHARED = ("clone", "workspace")  # whole chains, run once: minutes each


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests belong on one process (`pytest -n 2 --dist loadgroup`), and put the longest groups first.

    Tests of one whole chain share it; all others go by file, whose fixtures they share.
    """

    def group(item: pytest.Item) -> str:
        return next((name for name in SHARED if name in getattr(item, "fixturenames", ())), item.nodeid.split("::")[0])

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=lambda item: SHARED.index(group(item)) if group(item) in SHARED else len(SHARED))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse a pytest with which xdist keeps no group together: tests that build on others would fail by chance."""
    if session.config.getoption("loadgroup", False) and not all("@" in item.nodeid for item in session.items):
        raise pytest.UsageError("pytest-xdist cannot group tests with this pytest: use the versions of constraints.txt")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the public sets, named by FETALFLEX_DATA; the test is skipped where there is none."""
    named = os.environ.get("FETALFLEX_DATA", "")
    if not named:
        pytest.skip("FETALFLEX_DATA is not set: it names the folder of the public sets")
    folder = Path(named)
    if not folder.is_dir() or not any(folder.iterdir()):
        pytest.skip(f"FETALFLEX_DATA names {folder}, which is missing or empty")
    return folder


@pytest.fixture(scope="session")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One Prefect server for all tests that need one: starting it costs more than most of them."""
    running = Server(tmp_path_factory.mktemp("standing"))
    try:
        running.wait()
        yield running
    finally:
        running.stop()


def _ellipse(x: float, y: float, a: float, b: float) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    return ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1


@pytest.fixture(scope="session")
def tiny_cases() -> Cases:
    """Twelve heads, 32 x 32: bright skull, dark cavum, speckle; two centers, six patients, three groups.

    Masks are the experts'; the cavum of every third case is known as a box only, of every fourth not at all. Every
    second case has no spacing, and every third no age.
    """
    rng = np.random.default_rng(2026)
    images = np.zeros((MANY, SIDE, SIDE), np.uint8)
    masks = np.zeros((MANY, len(STRUCTURE_NAMES), SIDE, SIDE), bool)
    sources = np.zeros((MANY, len(STRUCTURE_NAMES)), np.uint8)
    head, csp = structure_index("head"), structure_index("csp")
    for i in range(MANY):
        x, y = SIDE / 2 + rng.uniform(-2, 2, 2)
        a, b = rng.uniform(9, 12), rng.uniform(7, 9)
        masks[i, head], masks[i, csp] = _ellipse(x, y, a, b), _ellipse(x - a / 2, y, 3, 2)
        skull = masks[i, head] & ~_ellipse(x, y, a - 1.5, b - 1.5)
        echo = 20 + 60 * masks[i, head] + 130 * skull - 50 * masks[i, csp]
        images[i] = np.clip(echo * rng.rayleigh(0.8, (SIDE, SIDE)), 0, 255)
        sources[i, head] = EXPERT
        sources[i, csp] = 0 if i % 4 == 3 else EXPERT_BOX if i % 3 == 2 else EXPERT
        if sources[i, csp] == 0:
            masks[i, csp] = False
        elif sources[i, csp] == EXPERT_BOX:
            rows, columns = (np.nonzero(masks[i, csp].any(axis=k))[0] for k in (1, 0))
            masks[i, csp, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    number = np.arange(MANY)
    return Cases(
        ids=np.array([f"case-{i:011d}" for i in number]),
        centers=np.array(["center-a", "center-b"])[number % 2],
        patients=np.array([f"patient-{i // 2:08d}" for i in number]),
        groups=np.array(["train", "train", "train", "train", "judge", "test"])[number // 2],
        images=images,
        masks=masks,
        sources=sources,
        confidences=(sources > 0).astype(np.float32),
        planes=np.full(MANY, plane_index("transventricular"), np.int64),
        ages=np.where(number % 3 == 0, np.nan, 20 + number).astype(np.float32),
        spacings=np.where(number % 2 == 1, np.nan, 2.5).astype(np.float32),
        valid=np.ones((MANY, SIDE, SIDE), bool),
        ignored=np.zeros((MANY, SIDE, SIDE), bool),
    )
