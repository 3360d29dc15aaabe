"""MLflow as a server that goes away."""

from collections.abc import Callable
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


@pytest.mark.parametrize(
    "ask",
    [
        lambda root: tracking.crown(root, "0" * 64),
        lambda root: tracking.mark_release(root, "v1", "0" * 64, None, crowned=True),
        lambda root: tracking.withdraw_models(root, set()),
    ],
    ids=["crown", "mark_release", "withdraw_models"],
)
def test_a_registry_that_does_not_answer_is_the_same_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Path], object]
) -> None:
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(WorkspaceError, match=rf"MLflow at 127\.0\.0\.1:{port} does not answer"):
        ask(tmp_path)


def test_weights_that_a_lost_server_kept_are_withdrawn_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark is set last: a version that has it is passed over."""
    version = SimpleNamespace(version="1", run_id="r", aliases=["champion"], tags={"sha256": "a" * 64})
    registry = SimpleNamespace(
        search_model_versions=lambda _: [version],
        delete_registered_model_alias=lambda _, alias: version.aliases.remove(alias),
        set_model_version_tag=lambda _name, _version, key, value: version.tags.update({key: value}),
    )
    monkeypatch.setattr(tracking, "_client", lambda _: registry)
    answers = [MlflowException("API request to http://127.0.0.1:1/api failed with exception refused"), None]
    deleted = []

    def delete(_: Path, run_id: str) -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer
        deleted.append(run_id)

    monkeypatch.setattr(tracking, "_delete_artifacts", delete)
    with pytest.raises(WorkspaceError, match="does not answer"):
        tracking.withdraw_models(tmp_path, set())
    assert tracking.withdraw_models(tmp_path, {"b" * 64}) == ["1"]
    assert (deleted, version.aliases) == (["r"], [])
    assert tracking.withdraw_models(tmp_path, set()) == []


def test_what_mlflow_refuses_is_not_taken_for_a_lost_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = _Failing("INVALID_PARAMETER_VALUE: invalid metric name")
    monkeypatch.setattr(tracking, "_client", lambda _: refusing)
    with pytest.raises(MlflowException, match="invalid metric name"):
        _note_a_loss(tmp_path)
