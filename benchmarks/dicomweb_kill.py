"""Fetch a whole center from a real Orthanc over DICOMweb, killed several times: does every instance arrive once?

The public set is imported as DICOM into a temporary workspace by `fetalflex import`, pushed into Orthanc by C-STORE (or
STOW-RS), and fetched in child processes, each killed (SIGKILL) at a random moment; the last one ends by itself. Then
the two trees are compared: SOP Instance UIDs as multisets, and of each object every data element, pixel data too.

    python -m benchmarks.dicomweb_kill SETS/barcelona_transventricular --kills 3 --seed 1

With --onboard the child is `fetalflex onboard`, as a person would run it, in a workspace of its own.
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
from dataclasses import dataclass
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
    parser.add_argument("--onboard", action="store_true", help="kill `fetalflex onboard` instead of the fetch alone")
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
        job = onboard_job(folder, server) if args.onboard else fetch_job(folder / "fetched" / CENTER, server, args.rate)
        if not args.onboard:
            seconds["fetch_without_kills"] = finish(fetch_job(folder / "calm" / CENTER, server, args.rate))
        moments = random.Random(args.seed)  # noqa: S311 - no secret
        total = sum(1 for p in sent.rglob("*.dcm"))
        targets = sorted(moments.randrange(1, total * 95 // 100) for _ in range(args.kills))
        start = time.perf_counter()
        kills = [start_and_kill(job, target, moments.uniform(0, 0.05)) for target in targets]
        seconds["killed"] = time.perf_counter() - start
        seconds["last"] = finish(job)
    return {
        "set": SET,
        "killed": "fetalflex onboard" if args.onboard else "fetch",
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "bytes": sum(p.stat().st_size for p in sent.rglob("*.dcm")),
        "kills": kills,
        **compare(sent, job.result),
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


@dataclass(frozen=True)
class Job:
    """A command that fetches: where its files wait and end up, and how it is started."""

    waiting: Path
    result: Path
    words: list[str]
    environment: dict[str, str]
    workspace: Path

    def start(self) -> subprocess.Popen:
        """Start it in a process of its own."""
        return subprocess.Popen(self.words, env=self.environment, cwd=self.workspace, stdout=subprocess.DEVNULL)


def fetch_job(into: Path, server: Orthanc, rate: float) -> Job:
    """Return the fetch alone."""
    into.parent.mkdir(parents=True)
    words = [sys.executable, __file__, str(into), "--fetch", server.dicomweb]
    return Job(into, into, words, environment(server, rate), into.parent)


def onboard_job(folder: Path, server: Orthanc) -> Job:
    """Return a whole onboarding, approved at its end, in a new workspace."""
    workspace = folder / "onboarding"
    command = [sys.executable, "-c", "from flows.cli import main; main()"]
    subprocess.run([*command, "init", str(workspace), "--preset", "tiny"], check=True, stdout=subprocess.DEVNULL)
    words = [*command, "onboard", CENTER, "--from", server.dicomweb, "--approve", "benchmark", "--trial", "4"]
    waiting = workspace / ".work" / "onboard" / CENTER / CENTER
    return Job(waiting, workspace / "incoming" / CENTER, words, environment(server), workspace)


def finish(job: Job) -> float:
    """Run a job to its end; return the seconds."""
    start = time.perf_counter()
    if job.start().wait() != 0:
        raise RuntimeError("the command failed")
    return time.perf_counter() - start


def start_and_kill(job: Job, target: int, delay_s: float) -> dict:
    """Start; once `target` instances are noted, and a moment more, kill; return what had arrived."""
    journal = job.waiting.parent / f".{job.waiting.name}.fetch" / "journal"
    process = job.start()
    while not journal.exists() or journal.read_bytes().count(b"\n") - 1 < target:
        if process.poll() is not None:
            raise RuntimeError("the command had ended before it was killed")
        time.sleep(0.002)
    time.sleep(delay_s)
    process.kill()
    if process.wait() != -signal.SIGKILL:
        raise RuntimeError("the command had ended before it was killed")
    return {"target": target, "delay_s": round(delay_s, 3), "arrived": sum(1 for _ in job.waiting.rglob("*.dcm"))}


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
        "left_unfinished": sum(1 for _ in fetched.parent.rglob("partial")),
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
