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

from fetalflex.artifacts import read_json, write_json
from fetalflex.errors import StageError, UsageError
from tasks import versioning
from tasks.progress import console
from tasks.stage import clean_work, read_error
from tasks.workspace import raw_is_absent, state_folder

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
def bring_up_to_date(root: Path, stage: str, reasons: list[str], force: bool = False) -> State[Any]:
    """Run a stage whose dependencies changed, or say that it is cached. `force`: not from DVC's memory of old runs."""
    if not reasons:
        clean_work(root, stage)
        return Completed(name="Cached", message="dvc.lock matches")
    try:
        versioning.repro(root, stage, force=force)
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
    forced: frozenset[str] = frozenset()


def make_plan(root: Path, start: str = "") -> Plan:
    """Ask DVC for its graph and for what is stale. Needs no server, so it can be asked while one starts.

    `start`: a stage (`ingest` means all centers) that runs again with all that follows from it, stale or not.
    Raises: UsageError where there is no such stage.
    """
    graph, stale = versioning.known_graph(root), versioning.status(root)
    forced = _following(graph, start) if start else frozenset()
    return Plan(graph, {**{name: [f"asked for: from {start}"] for name in forced}, **stale}, forced)


def _following(graph: dict[str, list[str]], start: str) -> frozenset[str]:
    """Return a stage with all that needs it, directly or not."""
    found = {name for name in graph if start in (name, name.partition("@")[0])}
    if not found:
        raise UsageError(f"--from {start}: there is no such stage; the stages are {', '.join(graph)}")
    for name, needs in graph.items():  # in an order in which they can run
        if found & set(needs):
            found.add(name)
    return frozenset(found)


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
        # DVC is asked again only where what ran upstream may have changed the answer: lost outputs stay lost.
        certain = stage in plan.forced or any(reason.startswith("outs ") for reason in stale.get(stage, []))
        if not certain and any(outcomes[n].state == "Completed" for n in needs):
            stale |= {stage: versioning.status(root, stage).get(stage, [])}
        _say_start(number, len(graph), stage, bool(stale.get(stage)) and not blocked)
        started = time.monotonic()
        if blocked:
            outcome = StageOutcome(stage, "NotRun", 0.0, f"needs {blocked[0]}")
        else:
            outcome = _bring(root, stage, stale.get(stage, []), started, force=stage in plan.forced)
        outcomes[stage] = outcome
        _say(number, len(graph), outcome)
    return list(outcomes.values())


def _bring(root: Path, stage: str, reasons: list[str], started: float, *, force: bool) -> StageOutcome:
    state: State[Any]
    if reasons and raw_is_absent(root, stage):
        state = use_pulled(root, stage, versioning.outputs(root, stage), return_state=True)
    else:
        state = bring_up_to_date(root, stage, reasons, force, return_state=True)
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


def run_pipeline(root: Path, plan: Plan) -> list[StageOutcome]:
    """Walk the graph and return each stage's outcome. Raises: StageError where the walk itself broke."""
    _record(root).unlink(missing_ok=True)
    state = walk(root, plan, return_state=True)
    if not _record(root).is_file():
        raise StageError(f"the walk broke off: {' '.join((state.message or state.name or '').split())}")
    return [StageOutcome(**o) for o in read_json(_record(root))]
