"""MLflow: runs, metrics, curves, sheets, datasets as inputs, the registry. The only importer of mlflow.

SQLite under the workspace unless MLFLOW_TRACKING_URI says otherwise. Metrics go in batches. No run id and no clock time
ever enters an output of DVC: tracking only listens.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fetalflex.artifacts import tree_sha256
from fetalflex.errors import WorkspaceError
from tasks.stage import StageRun
from tasks.workspace import git_commit, state_folder

EXPERIMENT = "fetalflex"
REGISTERED = "fetalflex-generator"
PARENT = "FETALFLEX_PARENT_RUN"
_BATCH = 500
# A server that is gone is given up after half a minute, not after MLflow's own five minutes for every call.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4", "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}


@contextmanager
def tracked_in(root: Path) -> Iterator[None]:
    """Make clones of a workspace, and all processes below, track where the workspace itself does."""
    if os.environ.get("MLFLOW_TRACKING_URI"):
        yield
        return
    _experiment(root)  # made here, it keeps its files in the workspace
    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri(root)
    try:
        yield
    finally:
        del os.environ["MLFLOW_TRACKING_URI"]


def tracking_uri(root: Path) -> str:
    """Return where runs are kept."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{state_folder(root) / 'mlflow.db'}"


def artifact_root(root: Path) -> str:
    """Return where files of runs are kept, unless a tracking server decides."""
    return (state_folder(root) / "mlartifacts").as_uri()


class Tracker:
    """One MLflow run of one stage."""

    def __init__(self, root: Path, run_id: str) -> None:
        """Attach to a run that exists."""
        self._root, self.run_id = root, run_id
        self._waiting: list[Any] = []

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Note metrics of a step; they are sent in batches and when the run ends."""
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        self._waiting += [Metric(name, float(value), now, step) for name, value in values.items()]
        if len(self._waiting) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        client = _client(self._root)
        for start in range(0, len(self._waiting), _BATCH):
            client.log_batch(self.run_id, metrics=self._waiting[start : start + _BATCH])
        self._waiting = []

    def tag(self, name: str, value: str) -> None:
        """Note with the run what only the run knows."""
        _client(self._root).set_tag(self.run_id, name, value)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file (a curve, a sheet) with the run."""
        _client(self._root).log_artifact(self.run_id, str(path), folder)

    def inputs(self, datasets: Mapping[str, str]) -> None:
        """Name the data that the run read: name -> content hash."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        found = [
            DatasetInput(
                # MLflow takes 36 characters of a digest.
                Dataset(name, digest[:36], source_type="dvc", source=json.dumps({"path": name})),
                [InputTag("mlflow.data.context", "input")],
            )
            for name, digest in datasets.items()
        ]
        _client(self._root).log_inputs(self.run_id, found)

    def register_generator(self, folder: Path, sha256: str) -> None:
        """Put the generator's weights in the registry, once per content, with the alias `candidate`."""
        version = _registered(_client(self._root), sha256) or _register(self._root, self.run_id, folder, sha256)
        _client(self._root).set_registered_model_alias(REGISTERED, "candidate", version)


def _registered(client: Any, sha256: str) -> str | None:
    """Return the version of the generator with these weights, None where there is none."""
    versions = client.search_model_versions(f"name = '{REGISTERED}'")
    return next((str(v.version) for v in versions if v.tags.get("sha256") == sha256), None)


def _register(root: Path, run_id: str, folder: Path, sha256: str) -> str:
    """Keep weights with a run and make them a version of the generator."""
    from mlflow.exceptions import MlflowException

    client = _client(root)
    try:
        client.create_registered_model(REGISTERED, description="Anatomy-controlled fetal ultrasound generator")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    client.log_artifacts(run_id, str(folder), "generator")
    source = f"{client.get_run(run_id).info.artifact_uri}/generator"
    return str(client.create_model_version(REGISTERED, source, run_id, tags={"sha256": sha256}).version)


def mark_release(root: Path, tag: str, sha256: str, folder: Path | None, *, crowned: bool) -> str | None:
    """Mark the generator's version with a release, registered here if no run did; return it.

    `folder`: its weights, where they are at hand; None: without a version there is nothing to mark. `crowned`: it also
    becomes the `champion`. Raises: WorkspaceError where the server does not answer.
    """
    with _answering(root):
        client = _client(root)
        version = _registered(client, sha256)
        if version is None:
            if folder is None or tree_sha256([folder]) != sha256:
                return None
            with _run(root, "release", None, {"release": tag}) as run_id:
                version = _register(root, run_id, folder, sha256)
        verdict = "accepted" if crowned else "rejected by the gate"
        client.set_model_version_tag(REGISTERED, version, f"release.{tag}", verdict)
        if crowned:
            client.set_registered_model_alias(REGISTERED, "champion", version)
        return version


def crown(root: Path, sha256: str) -> str | None:
    """Give the alias `champion` to the registered generator with these weights; return its version, None if unknown.

    Raises: WorkspaceError where the server does not answer.
    """
    with _answering(root):
        client = _client(root)
        version = _registered(client, sha256)
        if version is not None:
            client.set_registered_model_alias(REGISTERED, "champion", version)
        return version


@contextmanager
def pipeline_run(root: Path, tags: Mapping[str, str]) -> Iterator[Tracker]:
    """Yield the parent run; stages find it in the environment."""
    with _run(root, "pipeline", None, tags) as run_id:
        os.environ[PARENT] = run_id
        try:
            yield Tracker(root, run_id)
        finally:
            del os.environ[PARENT]


@contextmanager
def stage_run(run: StageRun, params: Mapping[str, Any]) -> Iterator[Tracker]:
    """Yield the MLflow run of a stage, with commit, fingerprint and parameters as its tags and params."""
    commit, dirty = git_commit(run.root)
    tags = {"git.commit": commit, "git.dirty": str(dirty).lower(), "stage.fingerprint": run.key}
    with _run(run.root, run.name, os.environ.get(PARENT), tags) as run_id:
        from mlflow.entities import Param

        found = [Param(name, str(value)[:500]) for name, value in params.items()]
        _client(run.root).log_batch(run_id, params=found)
        tracker = Tracker(run.root, run_id)
        tracker.inputs({name: tree_sha256([run.root / name]) for name in run.inputs})
        try:
            yield tracker
        finally:
            tracker.flush()


@contextmanager
def _answering(root: Path) -> Iterator[None]:
    """Turn MLflow's word for a server that does not answer into one line. Raises: WorkspaceError."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        # MLflow has no class for it; of a refusal the text goes on with an error code.
        if not str(error).startswith("API request to http") or " failed with " not in str(error):
            raise
        place = urlsplit(tracking_uri(root))
        raise WorkspaceError(
            f"MLflow at {place.hostname}:{place.port} does not answer any more: look after the server, or unset "
            "MLFLOW_TRACKING_URI to track inside the workspace; then the same command goes on where it stopped"
        ) from error


@contextmanager
def _run(root: Path, name: str, parent: str | None, tags: Mapping[str, str]) -> Iterator[str]:
    """Yield the id of a new MLflow run. Raises: WorkspaceError where the server does not answer."""
    with _answering(root):
        yield from _open_run(root, name, parent, tags)


def _open_run(root: Path, name: str, parent: str | None, tags: Mapping[str, str]) -> Iterator[str]:
    client, experiment = _client(root), _experiment(root)
    # A run whose process was killed stays RUNNING for ever: the next one of its stage closes it.
    for old in client.search_runs([experiment], f"tags.stage = '{name}' and attributes.status = 'RUNNING'"):
        client.set_terminated(old.info.run_id, "KILLED")
    more = {"mlflow.parentRunId": parent} if parent else {}
    made = client.create_run(experiment, tags={**tags, **more, "stage": name}, run_name=name)
    status = "FAILED"
    try:
        yield made.info.run_id
        status = "FINISHED"
    finally:
        client.set_terminated(made.info.run_id, status)


def _client(root: Path) -> Any:
    from mlflow.tracking import MlflowClient

    for setting, value in _PATIENCE.items():
        os.environ.setdefault(setting, value)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints, with traceback, what it raises
    return MlflowClient(tracking_uri(root))


def _experiment(root: Path) -> str:
    client = _client(root)
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    local = None if os.environ.get("MLFLOW_TRACKING_URI") else artifact_root(root)
    return str(client.create_experiment(EXPERIMENT, artifact_location=local))


def withdraw_models(root: Path, kept: set[str]) -> list[str]:
    """Take alias and weights from every version of the generator but those of `kept` weights, mark and return them.

    Raises: WorkspaceError where the server does not answer.
    """
    with _answering(root):
        client = _client(root)
        found = client.search_model_versions(f"name = '{REGISTERED}'")
        leaving = [v for v in found if v.tags.get("sha256") not in kept and "withdrawn" not in v.tags]
        for version in leaving:
            for alias in version.aliases:
                client.delete_registered_model_alias(REGISTERED, alias)
            # Weights first: what a lost server leaves unmarked is withdrawn the next time.
            _delete_artifacts(root, version.run_id)
            client.set_model_version_tag(REGISTERED, version.version, "withdrawn", "a center has left the dataset")
        return [str(version.version) for version in leaving]


def _delete_artifacts(root: Path, run_id: str) -> None:
    """Delete the weights that a run kept, wherever the server keeps them."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    uri = _client(root).get_run(run_id).info.artifact_uri
    get_artifact_repository(uri, tracking_uri=tracking_uri(root)).delete_artifacts("generator")
