"""What tests of sources share: a key, fetching into a center, and what has arrived."""

from collections import Counter
from pathlib import Path

from fetalflex.deid.keys import PseudonymKey
from fetalflex.errors import Reason
from fetalflex.sources.base import Fetched, Source

KEY = PseudonymKey(b"k" * 32, "test")
OTHER_KEY = PseudonymKey(b"o" * 32, "test")


def fetch(source: Source, into: Path) -> list[Fetched]:
    """Fetch everything."""
    return list(source.fetch(into, KEY))


def contents(into: Path) -> Counter[bytes]:
    """Return what lies in a center's folder, by content."""
    return Counter(p.read_bytes() for p in into.rglob("*") if p.is_file())


def reasons(events: list[Fetched]) -> Counter[Reason]:
    """Return how often each reason was given."""
    return Counter(e.reason for e in events if e.reason is not None)


def states(events: list[Fetched]) -> Counter[str]:
    """Return how many are new, known, refused."""
    return Counter(e.state for e in events)


def write_tree(root: Path, files: dict[str, bytes]) -> Path:
    """Write files below `root`."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root
