"""Onboarding of a center: fetch, probe, draft, trial, page, a person's decision, and only then the workspace changes.

The person is asked where the flow runs: on a server (a deployment) by Prefect's pause-for-input, in a terminal by a
prompt, in a script by `--approve NAME` or `--refuse`. A parameter or a state that Prefect keeps holds no identifier.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.runtime import deployment
from prefect.states import Completed, Failed

from fetalflex.errors import FetalFlexError, UsageError
from tasks.approval import Decision, ask_in_terminal, check_name
from tasks.onboard import Onboarding, Request, check_request, finish_approval, say_summary, summarize
from tasks.private import private_folder
from tasks.process import exclusive
from tasks.server import prefect_settings, shared_server
from tasks.staging import Staging
from tasks.workspace import find_root

Asked = Literal["server", "terminal", "script"]
Outcome = Literal["approved", "refused", "nothing new"]


@dataclass(frozen=True)
class Call:
    """What a caller in this process hands over beside Prefect, so that no server keeps a path or a query."""

    root: Path
    request: Request
    decision: Decision | None
    asked: Asked


@dataclass
class Result:
    """How an onboarding ended, in numbers and words of ours; `error` is what broke it."""

    outcome: Outcome | None = None
    summary: dict[str, Any] | None = None
    error: BaseException | None = None


_CALL: ContextVar[Call | None] = ContextVar("onboarding", default=None)
_RESULT: ContextVar[Result | None] = ContextVar("result", default=None)


class Approval(RunInput):
    """The form that Prefect shows while the flow waits: whether the center is approved, and by whom."""

    approve: bool = False
    your_name: str = ""


@flow(name="onboard", persist_result=False, flow_run_name="onboard {center}")
def onboard(
    center: str,
    source: str = "",
    query: str = "",
    profile: str = "",
    trial: int = 12,
    role: str = "normal",
    wait_hours: float = 24.0,
    poll_s: int = 10,
    pace: str = "",
) -> State[Any]:
    """Onboard a center; on a server the run pauses until a person answers its form.

    `source`: a folder, an archive or a DICOMweb server's address; `query`: KEY=VALUE pairs, separated by spaces; `pace`
    likewise. Do not write a patient's name or number there: Prefect keeps a deployment's parameters.
    """
    result = _RESULT.get() or Result()
    call = _CALL.get()
    if call is None:
        request = Request(center, source, query, profile, trial, role, pace)
        call = Call(find_root(Path.cwd()), request, None, "server" if deployment.id else "terminal")
    try:
        result.outcome, result.summary = _steps(call, wait_hours * 3600, poll_s)
    except (Exception, KeyboardInterrupt) as error:
        result.error = error
        return Failed(message=_public(error, call.request))
    return Completed(message=f"{center}: {result.outcome}")


def _steps(call: Call, wait_s: float, poll_s: int) -> tuple[Outcome, dict[str, Any]]:
    root, center = call.root, call.request.center
    busy = f"center {center}: another onboarding is at work: wait for its decision"
    with exclusive(root / ".work" / "onboard" / f"{center}.lock", busy):
        finish_approval(root, center)  # of an onboarding that was killed after the approval
        with private_folder(root, center) as private:
            work = Onboarding(root, call.request, private)
            _step(work, "fetch", work.fetch)
            if not _step(work, "probe", work.probe):
                work.refuse()
                return "nothing new", summarize(work)
            for name, make in (("draft", work.draft), ("trial", work.trial), ("page", work.write_page)):
                _step(work, name, make)
            decision = call.decision or _ask(work, call.asked, wait_s, poll_s)
            if not decision.approved:
                work.refuse()
                return "refused", summarize(work)
            _step(work, "apply", lambda: work.apply(decision))
            return "approved", summarize(work)


def _step(work: Onboarding, name: str, make: Callable[[], Any]) -> Any:
    """Run a step as a task run. Its error reaches the caller whole, and Prefect without details."""
    answer: list[Any] = []
    errors: list[Exception] = []

    @task(name=name, task_run_name=f"{name} {work.request.center}", cache_policy=NO_CACHE, persist_result=False)
    def step() -> State[Any]:
        started = time.monotonic()
        try:
            answer.append(make())
        except Exception as error:
            errors.append(error)
            return Failed(message=_public(error, work.request))
        work.found.seconds[name] = time.monotonic() - started
        return Completed()

    step(return_state=True)
    if errors:
        raise errors[0]
    return answer[0]


def _public(error: BaseException, request: Request) -> str:
    """Return what Prefect may keep of an error: our own message without source and query, else its type alone."""
    if not isinstance(error, FetalFlexError):
        return f"{type(error).__name__}; details are told where the onboarding was started"
    text = " ".join(str(error).split())
    for word in (request.source, request.profile, request.query):
        text = text.replace(word, "...") if word else text
    return text


def _ask(work: Onboarding, asked: Asked, wait_s: float, poll_s: int) -> Decision:
    """Ask a person until there is an answer that can be carried out."""
    say_summary(work)
    while True:
        decision = _pause(work, wait_s, poll_s) if asked == "server" else ask_in_terminal(work.request.center)
        if not decision.approved:
            return decision
        try:
            check_name(decision.name)
            work.profile()  # as it stands now: it may have been edited
        except UsageError as error:
            print(f"not approved yet: {error}", file=sys.stderr)
            continue
        return decision


def _pause(work: Onboarding, wait_s: float, poll_s: int) -> Decision:
    """Pause the flow run until its form is answered. No answer in time, or none at all, is a refusal."""
    census = work.found.census
    description = (
        f"**{work.request.center}**: {census.files} files ({len(work.found.new)} new), {census.images} images, "
        f"{census.patients} patients. Look at `{work.page}` on the machine that runs this flow; the profile beside it "
        f"may be edited. Approve only with your own name."
    )
    form = Approval.with_initial_data(description=description)
    try:
        answer = pause_flow_run(wait_for_input=form, timeout=round(wait_s), poll_interval=poll_s)
    except FlowPauseTimeout:
        return Decision(approved=False, asked="server")
    return Decision(answer.approve, " ".join(answer.your_name.split()), "server")


def run_onboarding(root: Path, request: Request, decision: Decision | None) -> Result:
    """Onboard from the command line: a server for the run, the flow, its result. Raises: what broke it."""
    check_request(root, request)
    if decision is None and not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask on: give --approve NAME or --refuse")
    call = Call(root, request, decision, "terminal" if decision is None else "script")
    result = Result()
    with shared_server(root) as server, prefect_settings(server), _handed_over(call, result):
        onboard(request.center, return_state=True)
    if result.error is not None:
        raise result.error
    return result


@contextmanager
def _handed_over(call: Call, result: Result) -> Iterator[None]:
    tokens = _CALL.set(call), _RESULT.set(result)
    try:
        yield
    finally:
        _CALL.reset(tokens[0])
        _RESULT.reset(tokens[1])


def staged_files(root: Path, center: str) -> int:
    """Return how many raw files of a center wait for a decision."""
    return len(Staging(root, center).names())
