"""The walk: DVC's graph, one Prefect task run per stage: `Cached` where dvc.lock matches, else `dvc repro`.

It names no stage. Prefect decides when, DVC decides whether, the stage's own flow decides how, MLflow remembers.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from tasks.report import write_report

from fetalflex.artifacts import read_json, tree_sha256, write_json
from fetalflex.dicom.keys import key_fingerprint
from fetalflex.errors import StageError
from tasks import fingerprints, incoming, tracking, versioning
from tasks.process import exclusive
from tasks.progress import console
from tasks.server import shared_server
from tasks.stage import clean_work, read_error, stage_names
from tasks.workspace import check_ready, git_commit, load_params, state_folder, workspace_key

Outcome = Literal["Cached", "Completed", "Failed", "NotRun"]
_COLOURS = {"Cached": "cyan", "Completed": "green", "Failed": "red", "NotRun": "yellow"}


@dataclass(frozen=True)
class StageOutcome:
    """What the walk did with a stage. `message`: why it ran, or why it did not."""

    name: str
    state: Outcome
    seconds: float
    message: str

    def as_dict(self) -> dict[str, Any]:
        """Return the outcome for JSON."""
        return asdict(self) | {"seconds": round(self.seconds, 2)}


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name="{stage}")
def bring_up_to_date(root: Path, stage: str, reasons: list[str]) -> State[Any]:
    """Run a stage whose dependencies changed, or say that it is cached."""
    if not reasons:
        clean_work(root, stage)
        return Completed(name="Cached", message="dvc.lock matches")
    try:
        versioning.repro(root, stage)
    except StageError as error:
        return Failed(message=read_error(root, stage) or str(error))
    clean_work(root, stage)
    return Completed(message="; ".join(reasons)[:500])


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name="{stage}")
def use_pulled(root: Path, stage: str, outputs: list[str]) -> State[Any]:
    """Use a stage's outputs as pulled: its raw files are not on this machine, so it can never be run here."""
    if all((root / o).exists() for o in outputs) or versioning.restore(root, *outputs):
        return Completed(name="Cached", message="raw files are absent here: the versioned output is used")
    return Failed(
        message=f"raw files are absent here, and neither cache nor remote has the output: pull or import {stage}"
    )


@dataclass(frozen=True)
class Plan:
    """DVC's graph (stage -> what it needs, in order) and, of each stale stage, why it is stale."""

    graph: dict[str, list[str]]
    stale: dict[str, list[str]]


def make_plan(root: Path) -> Plan:
    """Ask DVC for its graph and for what is stale. Needs no server, so it can be asked while one starts."""
    return Plan(versioning.graph(root), versioning.status(root))


@flow(name="pipeline", validate_parameters=False, persist_result=False)
def walk(root: Path, plan: Plan) -> State[Any]:
    """Bring every stage of DVC's graph up to date, in order; a failed stage stops only what needs it.

    The outcomes are written to `.fetalflex/last-run.json` (Prefect would pickle a returned value).
    """
    outcomes = _walk(root, plan)
    write_json(_record(root), [o.as_dict() for o in outcomes])
    failed = [o for o in outcomes if o.state == "Failed"]
    if failed:
        return Failed(message=f"{failed[0].name}: {failed[0].message}")
    return Completed(message=f"{len(outcomes)} stages are up to date")


def _record(root: Path) -> Path:
    return state_folder(root) / "last-run.json"


def _walk(root: Path, plan: Plan) -> list[StageOutcome]:
    graph, stale = plan.graph, dict(plan.stale)
    outcomes: dict[str, StageOutcome] = {}
    for number, (stage, needs) in enumerate(graph.items(), 1):
        blocked = [n for n in needs if outcomes[n].state in ("Failed", "NotRun")]
        if any(outcomes[n].state == "Completed" for n in needs):
            stale |= {stage: versioning.status(root, stage).get(stage, [])}
        _say_start(number, len(graph), stage, bool(stale.get(stage)) and not blocked)
        started = time.monotonic()
        if blocked:
            outcome = StageOutcome(stage, "NotRun", 0.0, f"needs {blocked[0]}")
        else:
            outcome = _bring(root, stage, stale.get(stage, []), started)
        outcomes[stage] = outcome
        _say(number, len(graph), outcome)
    return list(outcomes.values())


def _bring(root: Path, stage: str, reasons: list[str], started: float) -> StageOutcome:
    state: State[Any]
    if reasons and incoming.raw_is_absent(root, stage):
        state = use_pulled(root, stage, versioning.outputs(root, stage), return_state=True)
    else:
        state = bring_up_to_date(root, stage, reasons, return_state=True)
    name: Outcome = "Failed" if not state.is_completed() else "Cached" if state.name == "Cached" else "Completed"
    return StageOutcome(stage, name, time.monotonic() - started, " ".join((state.message or "").split()))


def _say_start(number: int, total: int, stage: str, runs: bool) -> None:
    if runs:
        console.print(f"[dim]\\[{number}/{total}][/dim] [bold]{stage}[/bold] ...")


def _say(number: int, total: int, outcome: StageOutcome) -> None:
    colour = _COLOURS[outcome.state]
    text = f": {outcome.message}" if outcome.state in ("Failed", "NotRun") else f"  {outcome.seconds:.1f} s"
    console.print(
        f"[dim]\\[{number}/{total}][/dim] [bold]{outcome.name:<26}[/bold] [{colour}]{outcome.state}[/{colour}]{text}"
    )


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


def run_workspace(root: Path) -> RunSummary:
    """Run all that is stale in a workspace: one server, one walk, the report. Raises: FetalFlexError."""
    check_ready(root)
    params = load_params(root)
    message = "another run is at work in this workspace: wait for it to end, or stop it"
    clock = _Clock()
    with exclusive(state_folder(root) / "run.lock", message), shared_server(root) as server:
        clock.lap("server process")
        incoming.prepare(root, params)
        clock.lap("raw files and manifests")
        stages = sorted(stage_names(root))
        fingerprints.refresh(root, stages, key_fingerprint(workspace_key(root, params)))
        plan = make_plan(root)
        clock.lap("dvc: graph and status")
        if server is not None:
            server.wait()
        clock.lap("waiting for the server")
        outcomes = _tracked_walk(root, plan)
        clock.skip()
        gate = _verdict(root, outcomes)
        report = write_report(root, [o.as_dict() for o in outcomes])
        clock.lap("report")
    return RunSummary(outcomes, clock.laps, gate, report)


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


def _tracked_walk(root: Path, plan: Plan) -> list[StageOutcome]:
    """Walk under one parent run in MLflow; where nothing is stale there is nothing to track."""
    if not plan.stale:
        return run_pipeline(root, plan)
    commit, dirty = git_commit(root)
    with tracking.pipeline_run(root, {"git.commit": commit, "git.dirty": str(dirty).lower()}):
        return run_pipeline(root, plan)


def _verdict(root: Path, outcomes: list[StageOutcome]) -> dict[str, Any] | None:
    """Return the gate's decision; a passing generator becomes the champion of the registry."""
    path = root / "reports" / "gate.json"
    if not path.is_file() or any(o.state not in ("Cached", "Completed") for o in outcomes):
        return None
    verdict: dict[str, Any] = read_json(path)
    ran = any(o.state == "Completed" for o in outcomes)
    weights = root / "models" / "generator"
    if verdict["passed"] and ran and weights.is_dir():
        tracking.crown(root, tree_sha256([weights]))
    return verdict


def run_pipeline(root: Path, plan: Plan) -> list[StageOutcome]:
    """Walk the graph and return each stage's outcome. Raises: StageError where the walk itself broke."""
    _record(root).unlink(missing_ok=True)
    state = walk(root, plan, return_state=True)
    if not _record(root).is_file():
        raise StageError(f"the walk broke off: {' '.join((state.message or state.name or '').split())}")
    return [StageOutcome(**o) for o in read_json(_record(root))]
