"""What the search for copies finds, and whom it suspects: planted training images and held-out strangers.

    python -m benchmarks.canaries WORKSPACE [--count 300]

At the workspace's training size, with its own aligned encoder, which no step of the search was tuned on. Canaries are
of as many patients as there are. Half of the held-out patients (test and judge) set the limit, the other half are the
strangers, altered like the canaries; 95 % intervals are exact (Clopper-Pearson).
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from fetalflex.dataset import Cases
from fetalflex.params import read_params
from fetalflex.quality.features.registry import open_encoder
from fetalflex.quality.privacy.canaries import plant
from fetalflex.quality.privacy.nearest import Gallery, Search
from fetalflex.quality.privacy.report import halves
from tasks.cases import read_cases


def gallery(cases: Cases) -> Gallery:
    """Return cases as the search takes them."""
    return Gallery(cases.images, cases.ids, cases.patients)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--count", type=int, default=300, help="canaries of each alteration")
    options = parser.parse_args()
    params = read_params(options.workspace / "params.yaml")
    cases = read_cases(options.workspace, params)
    train, test, judge = (gallery(cases.take(cases.groups == group)) for group in ("train", "test", "judge"))
    search = Search(train, open_encoder("aligner", options.workspace / "models" / "aligner"))
    calibrating, strangers = halves((test, judge))
    search.calibrate(calibrating)
    reached = np.sort(search.find(strangers).correlation)[::-1]
    planted = plant(search, strangers, min(options.count, len(train)), params.data.seed)
    print(json.dumps({
        "training": len(train), "calibrating": len(calibrating), "strangers": len(strangers), "limit": search.limit,
        "most alike strangers": reached[:10].round(3).tolist(), "canaries": [asdict(canary) for canary in planted],
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
