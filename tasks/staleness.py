"""What is stale and why, told without running or writing anything."""

from pathlib import Path

from fetalflex.deid.keys import PseudonymKey, key_fingerprint
from fetalflex.params import Params
from tasks import fingerprints, incoming, versioning
from tasks.stage import stage_names
from tasks.weights import NONE, weights_fingerprints
from tasks.workspace import check_ready, load_params, workspace_key


def find_stale(root: Path) -> dict[str, list[str]]:
    """Return every stage with its reasons to run again (none: up to date).

    Raw files and code are compared with what their manifests and fingerprints say now, which DVC does not yet
    know; what follows from a stale stage is named so, since it runs only if an output really changes.
    """
    check_ready(root)
    params = load_params(root)
    incoming.check_centers(root, params)
    key = workspace_key(root, params)
    graph, stale = versioning.graph(root), versioning.status(root)
    found = {stage: list(stale.get(stage, [])) for stage in graph}
    for center in params.ingest.centers:
        if incoming.stale_manifest(root, center, key) and f"ingest@{center}" in found:
            found[f"ingest@{center}"].append(f"raw files of {center} changed")
    for stage, reason in _changed_fingerprints(root, key, params).items():
        for name in found:
            if name.partition("@")[0] == stage:
                found[name].append(reason)
    for stage, needs in graph.items():
        upstream = [n for n in needs if found[n]]
        if upstream and not found[stage]:
            found[stage].append(f"follows from {', '.join(upstream)}")
    return found


def _changed_fingerprints(root: Path, key: PseudonymKey, params: Params) -> dict[str, str]:
    recorded = fingerprints.read(root)
    now = fingerprints.current(stage_names(root), key_fingerprint(key), weights_fingerprints(root, params))
    if not recorded:
        return {}
    changed = {}
    by_path = any("flows/" in line for line in (root / "dvc.yaml").read_text().splitlines())
    for stage, value in now["code"].items():
        if not by_path and recorded["code"].get(stage) != value:
            changed[stage] = "its code changed"
        if recorded["libraries"] != now["libraries"]:
            changed[stage] = "library versions changed"
    for stage, value in now["weights"].items():
        if recorded.get("weights", {}).get(stage, NONE) != value:
            changed[stage] = "its pretrained weights changed"
    if recorded["key"] != now["key"]:
        changed["ingest"] = "the pseudonym key changed"
    return changed
