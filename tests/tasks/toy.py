"""A workspace with a toy chain: the walk must not care what the stages do."""

import subprocess
import sys
from pathlib import Path

CHAIN = """
stages:
  ingest:
    foreach: ${ingest.centers}
    do:
      cmd: mkdir -p data/${item}/${key} && cp incoming/${key}.manifest data/${item}/${key}/x
      deps: ["incoming/${key}.manifest"]
      params: ["ingest.centers.${key}"]
      outs: ["data/${item}/${key}"]
  masks:
    cmd: mkdir -p data/masks && cat data/frames/*/x > data/masks/x
    deps: [data/frames]
    params: [ingest]
    outs: [data/masks]
  gate:
    cmd: test ! -f broken && cp data/masks/x report.json
    deps: [data/masks/x]
    outs: [report.json]
"""


def make_toy(root: Path) -> Path:
    """Make the toy workspace with centers a and b, their raw folders and manifests."""
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=root, check=True, capture_output=True)
    (root / "dvc.yaml").write_text(CHAIN)
    (root / "params.yaml").write_text("ingest: {centers: {a: frames, b: frames}}\n")
    for center in "ab":
        (root / "incoming" / center).mkdir(parents=True)
        (root / "incoming" / f"{center}.manifest").write_text(f"{center}\n")
    return root
