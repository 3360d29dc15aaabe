"""The scheduled run: clean clone, pull, pipeline, gate, release, data pushed before git, on a branch of its own.

A failed or refused run publishes nothing, and says why: in its state, on its page in Prefect, and to whoever is
notified.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed, Failed

from fetalflex.errors import FetalFlexError, UsageError
from flows.hooks import tell_failure
from flows.release import BUSY, say
from flows.run import RunSummary, run_workspace
from tasks import repository
from tasks.process import exclusive
from tasks.releasing.make import Released, mark, tag_release
from tasks.releasing.scheduled import (
    ScheduledRun,
    keep_page,
    next_tag,
    origin_of,
    publish,
    pull,
    released_already,
    run_clone,
)
from tasks.workspace import find_root, state_folder

Outcome = Literal["released", "nothing new", "refused", "failed"]
T = TypeVar("T")


@dataclass
class Story:
    """What a run did, for its page: its outcome, why, and its steps."""

    outcome: Outcome = "failed"
    why: str = ""
    tag: str = ""
    branch: str = ""
    steps: list[str] = field(default_factory=list)
    page: Path | None = None
    released: Released | None = None

    def markdown(self) -> str:
        """Return the page in Prefect."""
        lines = [
            f"# {self.outcome.capitalize()}",
            self.why,
            f"Branch `{self.branch or '-'}`, release `{self.tag or '-'}`.",
        ]
        if self.outcome in ("refused", "failed"):
            lines.append("Nothing was published: branch, tags and releases of the repository are as they were.")
        if self.page is not None:
            lines.append(f"Report on the machine of the run: `.fetalflex/runs/{self.page.name}`.")
        return "\n\n".join([*lines, "\n".join(f"- {step}" for step in self.steps)])


@flow(
    name="regenerate", persist_result=False, flow_run_name="regenerate {tag}", on_failure=[tell_failure],
    on_crashed=[tell_failure],
)  # fmt: skip
def regenerate(
    tag: str = "", repository_url: str = "", allow_failing_gate: bool = False, wait_hours: float = 12.0
) -> State[Any]:
    """Regenerate the dataset of the workspace that the process stands in, and release it.

    `tag`: empty for vYYYY.MM; `repository_url`: where the run is cloned from and published to, empty for the
    workspace's `origin`; `allow_failing_gate`: release past a rejecting gate, marked so; `wait_hours`: for another
    run to end.
    """
    root, story = find_root(Path.cwd()), Story(tag=tag)
    try:
        with _server_for_stages(), exclusive(state_folder(root) / "run.lock", BUSY, wait_s=wait_hours * 3600):
            _regenerate(root, story, origin_of(root, repository_url), allow_failing_gate)
    except FetalFlexError as error:
        story.why = " ".join(str(error).split())
    create_markdown_artifact(
        key="regenerate", markdown=story.markdown(), description=f"{story.outcome}: {story.why}"[:500]
    )
    message = f"{story.outcome}: {story.why}"
    if story.outcome == "refused":
        return Failed(name="Refused", message=message)
    return Failed(message=message) if story.outcome == "failed" else Completed(message=message)


def _regenerate(root: Path, story: Story, origin: str, allow_failing: bool) -> None:
    """Do the steps; the story tells them. Raises: FetalFlexError where one fails."""
    with run_clone(root, origin) as (tree, run):
        story.branch, story.tag = run.branch, story.tag or next_tag(root, origin)
        story.steps.append(f"clone of `{run.base[:12]}`" + (", gone on in after a kill" if run.resumed else ""))
        _step("pull", lambda: pull(tree), story)
        summary = run_workspace(tree, crown=False)
        story.steps += [
            f"{o.name}: {o.state}" + (f" ({o.message})" if o.state != "Cached" else "") for o in summary.stages
        ]
        story.page = keep_page(root, tree, run)
        _check(summary)
        before = repository.head(tree)
        if not repository.changed_files(tree) and (known := released_already(tree)):
            story.outcome, story.why = "nothing new", f"release {known} holds this very state"
            return
        commit = repository.commit_all(tree, f"Regenerated: {story.tag}") if repository.changed_files(tree) else before
        story.steps.append(f"commit `{commit[:12]}`")
        try:
            tagged = _step("release", lambda: tag_release(tree, story.tag, allow_failing=allow_failing, say=say), story)
        except UsageError as error:  # the gate's verdict, or a name that is taken: no failure of the machinery
            story.outcome, story.why = "refused", " ".join(str(error).split())
            return
        _step("git push", lambda: publish(tree, run, story.tag), story)
        story.released = mark(tree, tagged)
    story.outcome = "released"
    story.why = f"{story.released.accepted} of {story.released.images} images accepted"


def _check(summary: RunSummary) -> None:
    for outcome in summary.stages:
        if outcome.state == "Failed":
            raise FetalFlexError(f"stage {outcome.name} failed: {outcome.message}")


def _step(name: str, make: Callable[[], T], story: Story) -> T:
    """Run a step as a task run; an expected error is told in its state and raised here as it is."""
    answer: list[T] = []
    errors: list[FetalFlexError] = []

    @task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)
    def step() -> State[Any]:
        try:
            answer.append(make())
        except FetalFlexError as error:
            errors.append(error)
            return Failed(message=" ".join(str(error).split()))
        return Completed()

    step(return_state=True)
    if errors:
        raise errors[0]
    if not answer:
        raise FetalFlexError(f"step {name} broke off; its task run in Prefect holds the details")
    story.steps.append(f"{name}: done")
    return answer[0]


@contextmanager
def _server_for_stages() -> Iterator[None]:
    """Name this flow's server in the environment: stages are processes of their own."""
    url = PREFECT_API_URL.value()
    if os.environ.get("PREFECT_API_URL") or not url:
        yield
        return
    os.environ["PREFECT_API_URL"] = url
    try:
        yield
    finally:
        del os.environ["PREFECT_API_URL"]


__all__ = ["ScheduledRun", "Story", "regenerate"]
