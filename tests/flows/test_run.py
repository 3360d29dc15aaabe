import pytest

from fetalflex.errors import ModelError, WorkspaceError
from fetalflex.params import Params, Score
from flows.pipeline import StageOutcome
from flows.run import _verdict, check_weights


def params(lpips: str | None) -> Params:
    return Params(preset="test", ingest={"centers": {"near": "frames"}}, score=Score(lpips=lpips))


def test_weights_that_scoring_would_miss_stop_a_run_at_its_start(tmp_path):
    with pytest.raises(ModelError, match=r"score\.lpips .*no such folder"):
        check_weights(params(f"folder:{tmp_path / 'nowhere'}"))
    check_weights(params(None))


def test_a_champion_that_a_lost_server_missed_is_crowned_by_the_next_run(tmp_path, monkeypatch):
    (tmp_path / "models" / "generator").mkdir(parents=True)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "gate.json").write_text('{"passed": true}')
    crowned = []

    def lost(root, sha256):
        raise WorkspaceError("MLflow does not answer")

    monkeypatch.setattr("tasks.tracking.crown", lost)
    with pytest.raises(WorkspaceError):
        _verdict(tmp_path, [StageOutcome("train", "Completed", 1.0, "")], crown=True)
    monkeypatch.setattr("tasks.tracking.crown", lambda root, sha256: crowned.append(sha256))
    for _ in range(2):
        _verdict(tmp_path, [StageOutcome("train", "Cached", 0.0, "")], crown=True)
    assert len(crowned) == 1
