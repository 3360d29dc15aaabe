import logging
import threading

import pytest

from fetalflex.diffusion.two_stage import SampleRequest
from fetalflex.errors import UsageError
from fetalflex.studio import work
from fetalflex.studio.work import Job, Worker
from tests.fetalflex import tiny
from tests.fetalflex.synthesis import made


def job(owner: str, finish: object = None) -> Job:
    return Job(owner, SampleRequest("000000", tiny.layout()), 1, finish or (lambda _: "kept"))  # type: ignore[arg-type]


def wait(*jobs: Job) -> None:
    pause = threading.Event()
    while not all(j.ended for j in jobs):
        pause.wait(0.01)


def test_an_image_by_itself_is_that_of_a_model_made_alone() -> None:
    found = []
    worker = Worker(made.model())
    mine = worker.submit(job("a", lambda result: found.append(result) or "kept"))
    wait(mine)
    worker.close()
    (expected,) = made.model().alone().stream([SampleRequest("000000", tiny.layout())], 1)
    assert (mine.state, mine.result) == ("done", "kept")
    assert found[0].image.tobytes() == expected.image.tobytes()
    assert mine.version >= tiny.SAMPLE.coarse_steps + tiny.SAMPLE.fine_steps


def test_an_error_ends_one_job_and_the_next_is_served(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: object) -> str:
        raise ZeroDivisionError

    worker = Worker(made.model())
    with caplog.at_level(logging.ERROR):
        bad, good = worker.submit(job("a", fail)), worker.submit(job("b"))
        wait(bad, good)
    worker.close()
    assert (bad.state, good.state) == ("failed", "done")
    assert "ZeroDivisionError" in bad.error
    assert "an image could not be made" in caplog.text


def test_the_queue_has_an_end_and_an_owner_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "MOST_WAITING", 2)
    hold = threading.Event()
    worker = Worker(made.model())
    first = worker.submit(job("a", lambda _: str(hold.wait(30))))
    while first.state != "running":
        hold.wait(0.01)
    waiting = [worker.submit(job("b")), worker.submit(job("c"))]
    assert [worker.ahead(j) for j in waiting] == [1, 2]
    with pytest.raises(UsageError, match="waiting already"):
        worker.submit(job("d"))
    with pytest.raises(UsageError, match="still being made"):
        worker.submit(job("b"))
    worker.forget("b")
    assert (waiting[0].state, worker.ahead(waiting[1])) == ("cancelled", 1)
    hold.set()
    wait(first, waiting[1])
    worker.close()
    assert waiting[1].state == "done"
