"""A person's decision about a center, how it is asked for, and its record in `centers/CENTER.approval.json`.

The record is committed and holds no patient's data: who, when, and fingerprints of what was approved. No stage depends
on it, so it makes nothing stale.
"""

import signal
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fetalflex.artifacts import read_json, write_json
from fetalflex.errors import UsageError

LONGEST_NAME = 120


@dataclass(frozen=True)
class Decision:
    """Whether a center was approved, by whom, and where the person was asked (`terminal`, `script` or `server`)."""

    approved: bool
    name: str = ""
    asked: str = "script"


def check_name(name: str) -> str:
    """Return an approver's name, trimmed. Raises: UsageError where there is none or it is no name."""
    trimmed = " ".join(name.split())
    if not trimmed or len(trimmed) > LONGEST_NAME or not trimmed.isprintable():
        raise UsageError(
            f"an approval needs the name of a person (1 to {LONGEST_NAME} printable characters): it is recorded in "
            f"centers/CENTER.approval.json"
        )
    return trimmed


def ask_in_terminal(center: str) -> Decision:
    """Ask on the terminal until there is an answer. The end of input is a refusal: nobody said yes."""
    while True:
        try:
            answer = _ask(f"Approve {center}? yes / no: ").strip().casefold()
            if answer in ("n", "no"):
                return Decision(approved=False, asked="terminal")
            if answer in ("y", "yes"):
                return Decision(approved=True, name=check_name(_ask("Your name, for the record: ")), asked="terminal")
        except EOFError:
            return Decision(approved=False, asked="terminal")
        except UsageError as error:
            print(error, file=sys.stderr)
            continue
        print("Please answer yes or no.", file=sys.stderr)


def _ask(question: str) -> str:
    # Standard output may be read by a program (--json); questions go where messages go.
    print(question, end="", file=sys.stderr, flush=True)
    # The first query of polars puts a handler before Python's that lets a read go on after Ctrl-C.
    signal.siginterrupt(signal.SIGINT, True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def record_path(root: Path, center: str) -> Path:
    """Return the file that keeps a center's approvals."""
    return root / "centers" / f"{center}.approval.json"


def read_approvals(root: Path, center: str) -> list[dict[str, Any]]:
    """Return a center's approvals, oldest first; none where nobody approved it yet."""
    path = record_path(root, center)
    return list(read_json(path)["approvals"]) if path.is_file() else []


def add_approval(root: Path, center: str, entry: dict[str, Any]) -> None:
    """Append an approval to the record; an entry that is its last already is not written twice."""
    known = read_approvals(root, center)
    if known[-1:] != [entry]:
        write_json(record_path(root, center), {"center": center, "approvals": [*known, entry]})


def make_entry(decision: Decision, counts: dict[str, int]) -> dict[str, Any]:
    """Return the record of an approval: who, when (UTC), where asked, with which software, and how much."""
    from fetalflex import __version__

    return {
        "approved_by": decision.name, "at": datetime.now(UTC).isoformat(timespec="seconds"), "asked": decision.asked,
        "software": __version__, **counts,
    }  # fmt: skip
