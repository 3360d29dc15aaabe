"""A whole run of a workspace: one server, raw files made ready, the walk, the verdict, the report."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fetalflex.artifacts import read_json, tree_sha256
from fetalflex.deid.keys import key_fingerprint
from fetalflex.params import Params
from flows.pipeline import Plan, StageOutcome, make_plan, run_pipeline
from tasks import fingerprints, incoming, pagekeeping, tracking
from tasks.disk import telling_of_a_full_disk
from tasks.lockfile import mend_lock
from tasks.process import exclusive
from tasks.server import answering, prefect_settings, shared_server
from tasks.stage import stage_names
from tasks.weights import weights_fingerprints
from tasks.workspace import check_ready, git_commit, keep_test_only, load_params, state_folder, workspace_key


@dataclass(frozen=True)
class RunSummary:
    """A whole run: each stage's outcome, seconds spent around the stages by name, the verdict, the page."""

    stages: list[StageOutcome]
    overhead: dict[str, float]
    gate: dict[str, Any] | None
    report: Path | None

    @property
    def ok(self) -> bool:
        """Whether every stage is up to date (a rejecting gate is a state, not a failure)."""
        return all(o.state in ("Cached", "Completed") for o in self.stages)


def run_workspace(root: Path, start: str = "", *, crown: bool = True) -> RunSummary:
    """Run all that is stale in a workspace: one server, one walk, the report. Raises: FetalFlexError.

    `start`: a stage that runs again with all that follows from it, stale or not. `crown`: a generator past the gate
    becomes the registry's champion at once; a scheduled run leaves that to its release.
    """
    check_ready(root)
    params = load_params(root)
    message = "another run is at work in this workspace: wait for it to end, or stop it"
    clock = _Clock()
    lock = exclusive(state_folder(root) / "run.lock", message)
    with telling_of_a_full_disk(), lock, shared_server(root) as server:
        clock.lap("server process")
        keep_test_only(root)
        mend_lock(root)
        incoming.prepare(root, params)
        clock.lap("raw files and manifests")
        stages = sorted(stage_names(root))
        key = key_fingerprint(workspace_key(root, params))
        fingerprints.refresh(root, stages, key, weights_fingerprints(root, params))
        plan = make_plan(root, start)
        clock.lap("dvc: graph and status")
        if plan.stale:
            check_weights(params)
        with prefect_settings(server), answering():
            clock.lap("waiting for the server")
            outcomes, report = _walk_and_report(root, plan, clock)
        gate = _verdict(root, outcomes, crown=crown)
    return RunSummary(outcomes, clock.laps, gate, report)


def check_weights(params: Params) -> None:
    """Look whether weights that only a late stage reads are there, before hours of training. Raises: ModelError."""
    if params.score.lpips is not None:
        from fetalflex.quality.fidelity.lpips import check_lpips  # brings in torch

        check_lpips(params.score.lpips)


class _Clock:
    """Seconds by name, for the list of what the orchestration itself costs."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name], self._last = round(now - self._last, 2), now

    def skip(self) -> None:
        self._last = time.monotonic()


def _walk_and_report(root: Path, plan: Plan, clock: _Clock) -> tuple[list[StageOutcome], Path]:
    """Walk, write the page, and keep both under one parent run in MLflow (none where nothing is stale)."""
    if not plan.stale:
        outcomes = run_pipeline(root, plan)
        page = pagekeeping.current_page(root) if all(o.state == "Cached" for o in outcomes) else None
        return (outcomes, page) if page else _pages(root, outcomes, clock)
    from tasks.quality_page import QUALITY_PAGE
    from tasks.report import SHEET

    commit, dirty = git_commit(root)
    with tracking.pipeline_run(root, {"git.commit": commit, "git.dirty": str(dirty).lower()}) as tracker:
        outcomes, page = _pages(root, run_pipeline(root, plan), clock)
        for path in (page, root / SHEET, root / QUALITY_PAGE):
            if path.is_file():
                tracker.artifact(path, "report")
    return outcomes, page


def _pages(root: Path, outcomes: list[StageOutcome], clock: _Clock) -> tuple[list[StageOutcome], Path]:
    from tasks.report import write_report  # with matplotlib and polars: half a second that most runs do not need

    clock.skip()
    page = write_report(root, [o.as_dict() for o in outcomes])
    if all(o.state in ("Cached", "Completed") for o in outcomes):
        pagekeeping.note_page(root, page)
    clock.lap("report")
    return outcomes, page


def _verdict(root: Path, outcomes: list[StageOutcome], *, crown: bool) -> dict[str, Any] | None:
    """Return the gate's decision; a passing generator becomes the champion of the registry, where `crown` is set."""
    path = root / "reports" / "gate.json"
    if not path.is_file() or any(o.state not in ("Cached", "Completed") for o in outcomes):
        return None
    verdict: dict[str, Any] = read_json(path)
    ran = any(o.state == "Completed" for o in outcomes)
    weights = root / "models" / "generator"
    owed = state_folder(root) / "crown-owed"  # left where the server was lost, so that the next run makes up for it
    if crown and verdict["passed"] and (ran or owed.exists()) and weights.is_dir():
        owed.touch()
        tracking.crown(root, tree_sha256([weights]))
        owed.unlink()
    return verdict
