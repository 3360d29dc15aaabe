import pytest

from fetalflex.errors import ModelError
from fetalflex.params import Params, Score
from flows.run import check_weights


def params(lpips: str | None) -> Params:
    return Params(preset="test", ingest={"centers": {"near": "frames"}}, score=Score(lpips=lpips))


def test_weights_that_scoring_would_miss_stop_a_run_at_its_start(tmp_path):
    with pytest.raises(ModelError, match=r"score\.lpips .*no such folder"):
        check_weights(params(f"folder:{tmp_path / 'nowhere'}"))
    check_weights(params(None))
