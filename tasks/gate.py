"""The gate: reports against thresholds. New thresholds re-score nothing."""

from fetalflex import tables
from fetalflex.artifacts import read_json, write_json
from fetalflex.quality.gate import decide
from tasks.stage import StageRun


def judge_release(run: StageRun) -> None:
    """Decide on the release and on every image, and publish the decision (a rejection is a result, not a failure)."""
    reports = run.root / "reports"
    scores = tables.read_shards([reports / "scores.parquet"], tables.Scores)
    quality, downstream = read_json(reports / "quality.json"), read_json(reports / "downstream.json")
    write_json(run.work / "gate.json", decide(quality, downstream, scores, run.params.gate))
    run.publish({"reports/gate.json": run.work / "gate.json"})
