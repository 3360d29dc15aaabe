"""One generator for all users: jobs are served in the order of their coming, and each belongs to one sitting."""

import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from fetalflex.artifacts import encode_png
from fetalflex.diffusion.two_stage import SampleRequest, SampleResult
from fetalflex.errors import FetalFlexError, UsageError
from fetalflex.synthesis.models import Model

State = Literal["waiting", "running", "done", "cancelled", "failed"]
MOST_WAITING = 64
_LOG = logging.getLogger(__name__)


@dataclass(eq=False)
class Job:
    """One image on its way. `picture`: PNG of what is there so far; `version` grows with it.

    `finish` takes the result, in the worker's thread.
    """

    owner: str
    request: SampleRequest
    seed: int
    finish: Callable[[SampleResult], str]
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    state: State = "waiting"
    stage: Literal["coarse", "fine"] = "coarse"
    done: int = 0
    most: int = 0
    version: int = 0
    picture: bytes | None = None
    result: str | None = None
    error: str = ""
    stopped: bool = False

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state in ("done", "cancelled", "failed")


class Worker:
    """A queue and the thread that serves it."""

    def __init__(self, model: Model) -> None:
        """Start the thread."""
        self._model = model
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="generator", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Job:
        """Queue a job. Raises: UsageError where its owner has one already, or too many wait."""
        with self._changed:
            if any(j.owner == job.owner for j in (*self._waiting, *([self._running] if self._running else []))):
                raise UsageError("your last image is still being made: wait for it, or cancel it")
            if len(self._waiting) >= MOST_WAITING:
                raise UsageError(f"{MOST_WAITING} images are waiting already; try again in a while")
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def ahead(self, job: Job) -> int:
        """Return how many images are made before this one."""
        with self._changed:
            if job not in self._waiting:
                return 0
            return self._waiting.index(job) + (1 if self._running is not None else 0)

    def cancel(self, job: Job) -> None:
        """Stop a job: at once where it waits, after the present step where it runs."""
        with self._changed:
            job.stopped = True
            if job in self._waiting:
                self._waiting.remove(job)
                job.state = "cancelled"

    def forget(self, owner: str) -> None:
        """Stop all jobs of an owner."""
        with self._changed:
            owned = [j for j in (*self._waiting, *([self._running] if self._running else [])) if j.owner == owner]
        for job in owned:
            self.cancel(job)

    def close(self) -> None:
        """End the thread after the present step."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            if self._running is not None:
                self._running.stopped = True
            self._changed.notify_all()
        self._thread.join(timeout=30)

    def _serve(self) -> None:
        model = self._model.alone()  # the number of threads belongs to a thread
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                job = self._running = self._waiting.popleft()
                job.state = "running"
            try:
                self._make(model, job)
            finally:
                with self._changed:
                    self._running = None

    def _make(self, model: Model, job: Job) -> None:
        try:
            for step in model.steps(job.request, job.seed):
                if job.stopped:
                    job.state = "cancelled"
                    return
                job.stage, job.done, job.most = step.stage, step.done, step.most
                job.picture = encode_png(step.look()[0])
                job.version += 1
                if step.results is not None:
                    job.result = job.finish(step.results[0])
                    job.state = "done"
        except FetalFlexError as error:
            job.error, job.state = str(error), "failed"
        except Exception as error:  # one user's image must not end the studio for all
            _LOG.exception("an image could not be made")
            job.error, job.state = f"an error of the studio's own ({type(error).__name__}); its log says more", "failed"
