"""How much of Table E.1-1 (edition 2026c) de-identification tools carry: one file with every attribute, each tool run.

`python -m benchmarks.deid_tables --help`. For every attribute of the table that the dictionary knows, on top of one
phantom's header: is its outcome one that the Basic Profile or any option allows? By base action and tool. A tool that
is not installed beside FetalFlex is left out and named.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from pydicom import dcmread

from benchmarks.judge_headers import LETTERS, Judge, allowed, option_rows
from benchmarks.plant_headers import plant
from benchmarks.planted import TOOLS, phantom_files


def carried(tool: str, folder: Path) -> dict[str, Any]:
    """Return right and all attributes by base action, for one tool."""
    source = phantom_files(folder / f"source-{tool}", 1)[0]
    data = dcmread(source)
    planted = [p for p in plant(data, "tables", "patient", nested=0) if p.where == "table"]
    path, target = folder / f"{tool}.dcm", folder / f"out-{tool}" / f"{tool}.dcm"
    data.save_as(path, enforce_file_format=True)
    target.parent.mkdir()
    TOOLS[tool](path, target)
    judge, options, after = Judge("basic"), option_rows(), dcmread(target)
    right, total = Counter[str](), Counter[str]()
    for item in planted:
        letters = "/".join(LETTERS[item.tag])
        total[letters] += 1
        right[letters] += judge.outcome(after, item, "patient") in allowed(item, options, "basic")
    return {
        "tool": tool, "attributes": sum(total.values()), "right": sum(right.values()),
        "by_action": {k: f"{right[k]}/{total[k]}" for k in sorted(total)},
    }  # fmt: skip


def main() -> int:
    """Run what is installed and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for tool in TOOLS:
            try:
                print(json.dumps(carried(tool, Path(name))))
            except ImportError as error:
                print(f"{tool} is not installed here ({error.name})", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
