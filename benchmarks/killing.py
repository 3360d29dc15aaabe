"""One kill in one workspace: what is set up, where it strikes, what is left, and what a second try makes of it."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from benchmarks.warm import Forked, Warm
from fetalflex import tables
from fetalflex.release.chain import dvc_md5
from tasks import repository, versioning
from tasks.releasing.objects import Object, damage, damaged, objects
from tasks.stage import clean_work
from tests.flows.chain import commit, environment, family, hashes, is_dead

STAGES = ("ingest@phantom-tiny-b", "masks", "prealign", "train", "sample", "score", "evaluate", "gate")
CHUNKED = ("ingest", "masks", "sample", "score", "evaluate")
TRAINED = ("masks", "prealign", "train")
LIMIT_S = 600.0
SPARE = "spare"  # the name of the releases that are made to be killed
MISSED = "none: it had ended"
_OBJECT = re.compile(r"[0-9a-f]{30}(\.dir)?").fullmatch

Way = Literal["stage", "dvc", "run", "server", "release", "push"]
Aim = Literal["random", "chunk write", "chunk move", "checkpoint", "publish", "lock", "push"]


@dataclass(frozen=True)
class Target:
    """What is killed. `way`: `stage`, its process alone; `dvc`, `dvc repro` of one stage; `run`, a whole run on a
    standing server, and `server`, with one of its own; `release`, and `push`, `dvc push` alone. `forked`: a stage's
    process, struck and second, comes from one that has imported all; else it is a new one.
    """

    number: int
    way: Way
    stage: str
    aim: Aim
    forked: bool = False

    @property
    def scope(self) -> str:
        """`stage` or `chain`."""
        return "stage" if self.way in ("stage", "dvc") else "chain"


@dataclass
class Kill:
    """One kill and what came of it.

    `survivors`: processes that outlived it; `half`: outputs, objects or tags seen half-made; `redone`: finished chunks
    made again, `steps`: of a training; `said`: the last line of a second try that failed.
    """

    number: int
    scope: str
    way: str
    forked: bool
    stage: str
    aim: str
    victim: str
    survivors: int
    half: int
    redone: int
    steps: int
    lost: int
    twice: int
    same_hashes: bool
    seconds: float
    said: str


@dataclass
class Lane:
    """A workspace of its own in which one kill follows another. `served`: the environment of the standing server.

    `warm`: forks stages' processes for the targets that ask for it.
    """

    root: Path
    served: dict[str, str]
    warm: Warm
    known: dict[str, str] = field(init=False)
    images: Counter[str] = field(init=False)

    def __post_init__(self) -> None:
        """Note what an undisturbed run made."""
        self.known, self.images = hashes(self.root), _images(self.root)

    def strike(self, target: Target, chance: random.Random) -> Kill:
        """Do one kill; where it came too late it is done again, sooner."""
        began, hurry = time.monotonic(), 1.0
        while True:
            self._prepare(target)
            victim, everyone = self._kill(target, chance, hurry)
            if victim or hurry < 0.1:
                break
            hurry /= 3
        survivors = sum(not _within(30, p, is_dead) for p in everyone)
        half, work = self._half(target), self.root / ".work" / target.stage
        before, curves = _chunks(work), _curves(work)
        with _watched(work) as seen:
            said = self._again(target)
        found = _images(self.root)
        return Kill(
            target.number, target.scope, target.way, target.forked, target.stage, target.aim, victim or MISSED,
            survivors, half,
            sum(seen.chunks.get(name, {inode}) != {inode} for name, inode in before.items()),
            max((_twice(seen.curves.get(name, text)) for name, text in curves.items()), default=0),
            sum((self.images - found).values()), sum((found - self.images).values()),
            not said and self._is_same(target), round(time.monotonic() - began, 1), said,
        )  # fmt: skip

    def _command(self, target: Target) -> list[str]:
        commands: dict[Way, list[str]] = {
            "stage": _module(target.stage),
            "dvc": ["dvc", "repro", "--single-item", target.stage],
            "run": ["flows.cli", "run"],
            "server": ["flows.cli", "run"],
            "release": ["flows.cli", "release", SPARE, "--allow-failing-gate"],
            "push": ["dvc", "push", "--quiet"],
        }
        return [sys.executable, "-m", *commands[target.way]]

    def _environment(self, *, served: bool) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # dvc's stages ask for `python`
        return environment() | {"PATH": path, "DVC_NO_ANALYTICS": "1"} | (self.served if served else {})

    def _prepare(self, target: Target) -> None:
        """Take away what the command is going to make."""
        if target.aim == "push":
            commit(self.root, "As it is")
            shutil.rmtree(self._remote, ignore_errors=True)
            return
        clean_work(self.root, target.stage)
        for out in versioning.outputs(self.root, target.stage):
            _remove(self.root / out)
            if target.way != "stage":  # DVC would bring it back without a run
                md5 = self.known[out]
                _remove(self.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:])
        if target.way != "stage":
            _remove(self.root / ".dvc/cache/runs")

    @property
    def _remote(self) -> Path:
        return self.root.with_name(f"{self.root.name}.remote")

    @property
    def _cache(self) -> Path:
        return self.root / ".dvc" / "cache"

    @contextmanager
    def _started(self, target: Target) -> Iterator["subprocess.Popen[bytes] | Forked"]:
        """Yield the command at work."""
        if target.forked:
            module, *arguments = _module(target.stage)
            yield self.warm.start(module, arguments, self.root, self.root / ".work" / "stderr")
            return
        with subprocess.Popen(
            self._command(target), cwd=self.root, env=self._environment(served=target.way != "server"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            yield process

    def _kill(self, target: Target, chance: random.Random, hurry: float) -> tuple[str, list[psutil.Process]]:
        """Start the command and kill at the aim; return the victim (empty: it had ended) and who must be gone then."""
        reached, delay = self._moment(target, chance, hurry), _delay(target, chance) * hurry
        with self._started(target) as process:
            _within(LIMIT_S, process, lambda p: p.poll() is not None or reached())
            _within(delay, process, lambda p: p.poll() is not None)
            if process.poll() is not None:
                return "", []
            everyone = family(psutil.Process(process.pid))
            name = _end(_choose(everyone, target, chance))
            try:
                process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                name += " (the command HUNG)"
        return name, everyone

    def _moment(self, target: Target, chance: random.Random, hurry: float) -> Callable[[], bool]:
        """Return what tells whether the moment has come at which a kill is aimed."""
        work, lock, remote = self.root / ".work" / target.stage, self.root / "dvc.lock", self._remote
        outs = [self.root / out for out in versioning.outputs(self.root, target.stage)]
        size, early = lock.stat().st_size, chance.random() < 0.3
        count = len(set(objects(self._cache, self.known))) if target.aim == "push" else 0
        pushed = 1 + int(chance.random() * count * hurry)
        tests: dict[Aim, Callable[[], bool]] = {
            "random": lambda: early or any(p.is_dir() for p in work.glob("*")),
            "chunk write": lambda: any(work.glob("*/chunks/.*.partial")),
            "chunk move": lambda: bool(_chunks(work)),
            "checkpoint": lambda: any(work.glob("*/state*/.*.partial")) or any(work.glob("*/state*/*.safetensors")),
            "publish": lambda: any(o.exists() or any(o.parent.glob(f".{o.name}.*partial")) for o in outs),
            "lock": lambda: lock.stat().st_size < size,  # dvc writes it in place
            "push": lambda: sum(p.is_file() for p in remote.rglob("*")) >= pushed,
        }
        return tests[target.aim]

    def _half(self, target: Target) -> int:
        """Count what is visible and not whole: outputs; of a push the remote's objects, and a tag without its data."""
        if target.aim != "push":
            return sum(dvc_md5(self.root / path) not in (None, md5) for path, md5 in self.known.items())
        remote = self._remote
        found = [Object(p.name, p.parent.name + p.name, p) for p in remote.glob("files/md5/??/*") if _OBJECT(p.name)]
        return sum(damage(o) is not None for o in found) + (
            SPARE in repository.tags(self.root) and self._lacks(remote) > 0
        )

    def _lacks(self, store: Path) -> int:
        return len(damaged(store, self.known)[1])

    def _again(self, target: Target) -> str:
        """Do again what was killed; where DVC or a run was struck, a whole run. Return the last line of a failure."""
        if target.forked:
            with self._started(target) as process:
                code = process.wait(LIMIT_S)
            return _last_line((self.root / ".work" / "stderr").read_text(), code)
        whole = target.way in ("dvc", "run", "server")
        command = [sys.executable, "-m", "flows.cli", "run"] if whole else self._command(target)
        try:
            done = subprocess.run(
                command, cwd=self.root, env=self._environment(served=True), capture_output=True, text=True, check=False,
                timeout=LIMIT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"did not end within {LIMIT_S:.0f} s"
        return _last_line(done.stderr, done.returncode)

    def _is_same(self, target: Target) -> bool:
        """Return whether all is as an undisturbed run leaves it: links, bytes, cache, remote, tag."""
        same = hashes(self.root) == self.known
        same &= all(dvc_md5(self.root / path) == md5 for path, md5 in self.known.items())
        if target.way != "stage":
            same &= not self._lacks(self._cache)
        if target.aim == "push":
            same &= not self._lacks(self._remote)
        if target.way == "release":
            same &= repository.tags(self.root) == [SPARE] and not (self.root / ".work" / "release").exists()
            repository.git(self.root, "tag", "--delete", SPARE)
        return same


def _module(stage: str) -> list[str]:
    """Return a stage's module and arguments, as dvc.yaml calls it."""
    name, _, center = stage.partition("@")
    return [f"flows.{name}", *(["--center", center] if center else [])]


def _last_line(text: str, code: int) -> str:
    """Return the last line of a command that failed, empty where it did not."""
    lines = text.strip().splitlines() or [f"exit code {code}"]
    return " ".join(lines[-1].split()) if code else ""


def _delay(target: Target, chance: random.Random) -> float:
    """Return how long to wait at the aim, in seconds. The gate is at work for less than one."""
    longest = {"random": 0.5 if target.stage == "gate" else 4.0, "checkpoint": 0.5, "lock": 0.1}.get(target.aim, 0.05)
    return chance.random() * longest


def _choose(everyone: list[psutil.Process], target: Target, chance: random.Random) -> psutil.Process:
    """Return the process that is struck: at a lock dvc, else the command itself in half of the kills, or any below."""
    wanted = {"lock": "dvc", "push": "dvc"}.get(target.aim, "uvicorn" if target.way == "server" else "")
    if wanted and chance.random() < 0.5:
        return next((p for p in everyone if wanted in _name(p)), everyone[0])
    return everyone[0] if chance.random() < 0.5 else chance.choice(everyone)


def _end(process: psutil.Process) -> str:
    """Kill a process; return what it was, empty where it had just ended."""
    name = _name(process)
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return ""
    return name


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()[1:5])[:60]
    except psutil.NoSuchProcess:
        return ""


@dataclass
class _Seen:
    """What a run made while it was watched: chunk -> inodes, loss curve -> its last text."""

    chunks: dict[str, set[int]] = field(default_factory=dict)
    curves: dict[str, str] = field(default_factory=dict)


@contextmanager
def _watched(work: Path) -> Iterator[_Seen]:
    """Watch a work folder for the length of the block: a run that ends well cleans it."""
    seen, ended = _Seen(), threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            for name, inode in _chunks(work).items():
                seen.chunks.setdefault(name, set()).add(inode)
            seen.curves |= _curves(work)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def _chunks(work: Path) -> dict[str, int]:
    """Return finished chunks with their inodes: one that is made again has another."""
    found = {}
    for chunk in work.glob("*/chunks/*"):
        if not chunk.name.startswith("."):
            with suppress(FileNotFoundError):
                found[chunk.name] = chunk.stat().st_ino
    return found


def _curves(work: Path) -> dict[str, str]:
    """Return the loss curves of a work folder: every step that was taken is a line."""
    found = {}
    for curve in work.glob("*/*.jsonl"):
        with suppress(FileNotFoundError):
            found[curve.name] = curve.read_text()
    return found


def _twice(curve: str) -> int:
    """Return how many steps of a curve were taken twice."""
    steps = [json.loads(line)["step"] for line in curve.splitlines() if line.startswith("{") and line.endswith("}")]
    return len(steps) - len(set(steps))


def _images(root: Path) -> Counter[str]:
    shards = sorted((root / "data" / "synthetic").glob("images-*.parquet"))
    return Counter(name for s in shards for name in tables.read_shards([s], tables.Synthetic)["image_id"].to_list())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _within(limit_s: float, one: Any, condition: Callable[[Any], bool]) -> bool:
    """Return whether the condition of something came true in time; looked at every two milliseconds."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if condition(one):
            return True
        time.sleep(0.002)
    return condition(one)
