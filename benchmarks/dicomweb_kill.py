"""Fetch a whole center from a real Orthanc over DICOMweb, killed several times: does every instance arrive once?

The public set is imported as DICOM into a temporary workspace by `fetalflex import`, pushed into Orthanc by C-STORE (or
STOW-RS), and fetched in child processes, each killed (SIGKILL) at a random moment; the last one ends by itself. Then
the two trees are compared: SOP Instance UIDs as multisets, and of each object every data element, pixel data too.

    python benchmarks/dicomweb_kill.py SETS/barcelona_transventricular --kills 3 --seed 1
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pydicom

from tests.fetalflex.sources.orthanc import Orthanc, running_orthanc

SET, CENTER = "barcelona-transventricular", "barcelona"
KEY = "a key of the benchmark, not a secret"


def main() -> int:
    """Run the benchmark; print one JSON object; return 0 where every instance arrived once."""
    args = parse_arguments()
    if args.fetch:
        return fetch(args.fetch, args.source)
    folder = Path(tempfile.mkdtemp(prefix="fetalflex-kill-"))
    try:
        result = measure(folder, args)
    finally:
        shutil.rmtree(folder)
    print(json.dumps(result, indent=1))
    return 0 if result["every_instance_once"] else 1


def parse_arguments() -> argparse.Namespace:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the set's folder (with --fetch: the folder to fetch into)")
    parser.add_argument("--kills", type=int, default=3, help="how often the fetch is killed (default 3)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills (default 1)")
    parser.add_argument("--push", choices=("c-store", "stow"), default="c-store", help="how Orthanc is filled")
    parser.add_argument("--rate", type=float, default=1000.0, help="requests per second at most (default 1000)")
    parser.add_argument("--fetch", help=argparse.SUPPRESS)  # the child's part: the server's address
    return parser.parse_args()


def measure(folder: Path, args: argparse.Namespace) -> dict:
    """Import, push, fetch under kills, compare."""
    workspace, seconds = folder / "workspace", {}
    start = time.perf_counter()
    command = [sys.executable, "-c", "from flows.cli import main; main()"]
    subprocess.run([*command, "init", str(workspace), "--preset", "tiny"], check=True, stdout=subprocess.DEVNULL)
    words = ["import", SET, str(args.source.resolve()), "--center", CENTER]
    subprocess.run([*command, *words], check=True, cwd=workspace, stdout=subprocess.DEVNULL, env=environment())
    sent = workspace / "incoming" / CENTER
    seconds["import"] = time.perf_counter() - start
    with running_orthanc(folder) as server:
        start = time.perf_counter()
        push(server, sent, args.push)
        seconds["push"] = time.perf_counter() - start
        into = folder / "fetched" / "incoming" / CENTER
        seconds["fetch_without_kills"] = fetch_once(server, folder / "calm" / CENTER, args.rate)
        moments = random.Random(args.seed)  # noqa: S311 - no secret
        total = sum(1 for p in sent.rglob("*.dcm"))
        targets = sorted(moments.randrange(1, total * 95 // 100) for _ in range(args.kills))
        start = time.perf_counter()
        kills = [fetch_and_kill(server, into, t, moments.uniform(0, 0.05), args.rate) for t in targets]
        seconds["last_fetch"] = fetch_once(server, into, args.rate)
        seconds["all_fetches"] = time.perf_counter() - start
    return {
        "set": SET,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "bytes": sum(p.stat().st_size for p in sent.rglob("*.dcm")),
        "kills": kills,
        **compare(sent, into),
    }


def environment(server: Orthanc | None = None, rate: float = 0.0) -> dict[str, str]:
    """Return the children's environment: the key, and the server's credentials."""
    root = str(Path(__file__).parents[1])
    added = {"FETALFLEX_KEY": KEY, "PYTHONPATH": root}
    if server is not None:
        added |= {"FETALFLEX_DICOMWEB_USER": server.user, "FETALFLEX_DICOMWEB_PASSWORD": server.password}
        added |= {"BENCHMARK_RATE": str(rate)}
    return os.environ | added


def push(server: Orthanc, folder: Path, way: str) -> None:
    """Fill the server as a hospital would."""
    if way == "c-store":
        words = ["storescu", "-aet", "VOLUSON1", "-aec", server.title, "-R", "+sd", "+r", "127.0.0.1"]
        subprocess.run([*words, str(server.dicom_port), str(folder)], check=True)
        return
    from dicomweb_client.session_utils import create_session_from_user_pass
    from dicomweb_client.web import DICOMwebClient

    client = DICOMwebClient(server.dicomweb, session=create_session_from_user_pass(server.user, server.password))
    for path in sorted(folder.rglob("*.dcm")):
        client.store_instances([pydicom.dcmread(path)])


def child(server: Orthanc, into: Path, rate: float) -> subprocess.Popen:
    """Start a fetch in a process of its own."""
    words = [sys.executable, __file__, str(into), "--fetch", server.dicomweb]
    return subprocess.Popen(words, env=environment(server, rate), stdout=subprocess.DEVNULL)


def fetch_once(server: Orthanc, into: Path, rate: float) -> float:
    """Fetch to the end; return the seconds."""
    start = time.perf_counter()
    if child(server, into, rate).wait() != 0:
        raise RuntimeError("the fetch failed")
    return time.perf_counter() - start


def fetch_and_kill(server: Orthanc, into: Path, target: int, delay_s: float, rate: float) -> dict:
    """Fetch; once `target` instances are noted, and a moment more, kill it; return what had arrived."""
    journal = into.parent / f".{into.name}.fetch" / "journal"
    process = child(server, into, rate)
    while not journal.exists() or journal.read_bytes().count(b"\n") - 1 < target:
        if process.poll() is not None:
            raise RuntimeError("the fetch had ended before it was killed")
        time.sleep(0.002)
    time.sleep(delay_s)
    process.kill()
    if process.wait() != -signal.SIGKILL:
        raise RuntimeError("the fetch had ended before it was killed")
    return {"target": target, "delay_s": round(delay_s, 3), "arrived": sum(1 for _ in into.rglob("*.dcm"))}


def fetch(address: str, into: Path) -> int:
    """Be the child: fetch everything."""
    from fetalflex.deid.keys import read_key
    from fetalflex.sources.open import open_source
    from fetalflex.sources.query import Manners

    manners = Manners(requests_per_s=float(os.environ["BENCHMARK_RATE"]))
    refused = [e for e in open_source(address, manners=manners).fetch(into, read_key(into)) if e.state == "refused"]
    return 1 if refused else 0


def compare(sent: Path, fetched: Path) -> dict:
    """Return counts, and whether every instance is there once and equal."""
    before, after = read(sent), read(fetched)
    uids = (Counter(uid for uid, _ in before), Counter(uid for uid, _ in after))
    first = dict(before)
    equal = [uid for uid, path in after if uid in first and same(pydicom.dcmread(first[uid]), pydicom.dcmread(path))]
    return {
        "sent": len(before),
        "arrived": len(after),
        "arrived_twice": sum(1 for n in uids[1].values() if n > 1),
        "missing": len(uids[0] - uids[1]),
        "with_equal_elements_and_pixels": len(equal),
        "byte_identical": sum(
            1 for uid, path in after if uid in first and first[uid].read_bytes() == path.read_bytes()
        ),
        "left_unfinished": sum(1 for p in fetched.parent.rglob("partial")),
        "every_instance_once": uids[0] == uids[1] and len(equal) == len(before),
    }


def read(folder: Path) -> list[tuple[str, Path]]:
    """Return (SOP Instance UID, path) of every file."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return [(str(pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID), p) for p in paths]


def same(one: pydicom.Dataset, other: pydicom.Dataset) -> bool:
    """Whether two objects have equal elements, and equal pixels."""
    return one == other and one.get("PixelData") == other.get("PixelData")


if __name__ == "__main__":
    sys.exit(main())
