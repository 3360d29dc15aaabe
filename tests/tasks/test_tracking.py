"""MLflow as a server that goes away."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from fetalflex.errors import WorkspaceError
from tasks import tracking
from tasks.server import free_port


class _Failing:
    """A client whose runs open, and to whose every later call the server gives one answer."""

    def __init__(self, answer: str) -> None:
        self._answer = answer

    def get_experiment_by_name(self, _: str) -> Any:
        return SimpleNamespace(experiment_id="1")

    def search_runs(self, *_: object) -> list[Any]:
        return []

    def create_run(self, *_: object, **__: object) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id="r"))

    def log_batch(self, *_: object, **__: object) -> None:
        raise MlflowException(self._answer)

    set_terminated = log_batch


def _note_a_loss(root: Path) -> None:
    with tracking.pipeline_run(root, {}) as run:
        run.metrics({"loss": 1.0})
        run.flush()


def test_a_server_that_does_not_answer_is_one_line_without_the_address_s_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:secret@127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    told = rf"MLflow at 127\.0\.0\.1:{port} does not answer.*goes on where it stopped"
    with pytest.raises(WorkspaceError, match=told) as found:
        _note_a_loss(tmp_path)
    assert "secret" not in str(found.value)


def test_a_server_that_goes_away_in_a_run_is_the_same_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was noted cannot be sent, and then the run cannot even be ended."""
    gone = _Failing("API request to http://127.0.0.1:1/api failed with exception refused")
    monkeypatch.setattr(tracking, "_client", lambda _: gone)
    with pytest.raises(WorkspaceError, match=r"MLflow at .* does not answer"):
        _note_a_loss(tmp_path)


def test_what_mlflow_refuses_is_not_taken_for_a_lost_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = _Failing("INVALID_PARAMETER_VALUE: invalid metric name")
    monkeypatch.setattr(tracking, "_client", lambda _: refusing)
    with pytest.raises(MlflowException, match="invalid metric name"):
        _note_a_loss(tmp_path)
