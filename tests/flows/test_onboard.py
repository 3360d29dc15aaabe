"""`fetalflex onboard` as people use it: in a script, at a terminal, killed, and on a Prefect server that waits."""

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from fetalflex.artifacts import read_json
from flows.cli import main
from tasks.server import Server, prefect_settings
from tasks.workspace import create_workspace, load_params
from tests.fetalflex.dicom.samples import write_image
from tests.fetalflex.sources.orthanc import most_in_a_second, running_orthanc

ROOT = Path(__file__).parents[2]
PLANTED = ("ZQPLANTED", "ZQFOLDER", "ZQSTUDY")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fresh") / "ws"
    create_workspace(place, "tiny")
    (place / ".fetalflex").mkdir()
    (place / ".fetalflex/key").write_text("0123456789abcdef0123456789abcdef")
    return place


@pytest.fixture
def server(standing: Server) -> Server:
    """The Prefect server of all tests, whose database they look into."""
    return standing


@pytest.fixture
def root(fresh: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fresh, tmp_path / "ws", symlinks=True))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four images with planted identifiers in their headers and paths."""
    folder = tmp_path / "ZQFOLDER^JANE"
    for seed in range(4):
        write_image(
            folder / f"ZQFOLDER {seed}" / f"im{seed}.dcm", seed, patient_id=f"ZQPLANTED{seed // 2}",
            study_description="Fetal BRAIN of ZQSTUDY: [x", spacing_mm=(0.2, 0.2),
        )  # fmt: skip
    return folder


_SECRETS: dict[str, str] = {}  # of the hospital's server, for the test that has one


def _environment(server: Server) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW", "FETALFLEX"))}
    return kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PREFECT_API_URL": server.url} | _SECRETS


def _run(root: Path, server: Server, *arguments: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "onboard", *arguments],
        cwd=root, env=_environment(server), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def _state(root: Path) -> dict[str, bytes]:
    found = (p for p in root.rglob("*") if p.is_file())
    return {n: p.read_bytes() for p in found if (n := p.relative_to(root).as_posix()).split("/")[0] in
            ("centers", "incoming", "params.yaml", "dvc.yaml")}  # fmt: skip


def _wait(ready: Callable[[], Any], seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := ready():
            return found
        time.sleep(0.1)
    raise AssertionError("waited in vain")


class _Terminal:
    """The command at a terminal of its own."""

    def __init__(self, root: Path, server: Server, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "onboard", *arguments],
            cwd=root, env=_environment(server) | {"COLUMNS": "200"}, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job is started deaf to it
        )  # fmt: skip
        os.close(slave)
        os.set_blocking(self.master, False)
        self.said = ""

    def read(self) -> str:
        with contextlib.suppress(BlockingIOError, OSError):
            self.said += os.read(self.master, 65536).decode(errors="replace")
        return self.said

    def expect(self, text: str) -> None:
        try:
            _wait(lambda: text in self.read())
        except AssertionError:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise AssertionError(f"{text!r} was not said: {self.said[-2000:]}") from None

    def answer(self, text: str) -> None:
        os.write(self.master, f"{text}\n".encode())

    def end(self) -> int:
        code = self.process.wait(60)
        self.read()
        os.close(self.master)
        return code


def test_approved_in_a_script_and_no_identifier_anywhere(root: Path, server: Server, source: Path) -> None:
    done = _run(root, server, "north", "--from", str(source), "--approve", "Dr. A. Steward", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["outcome"], found["images"], found["patients"]) == ("approved", 4, 2)
    assert load_params(root).ingest.centers["north"] == "frames"
    (entry,) = read_json(root / "centers/north.approval.json")["approvals"]
    assert entry["approved_by"] == "Dr. A. Steward"
    assert not list((root / ".fetalflex/onboarding").iterdir())
    kept = [p for p in root.rglob("*") if p.is_file() and p.suffix != ".dcm"]
    kept += [p for p in server._log.parent.rglob("*") if p.is_file()]
    assert any(p.name == "prefect.db" for p in kept)
    said = (done.stdout + done.stderr).encode()
    for word in PLANTED:
        assert word.encode() not in said
        assert not [p for p in kept if word.encode() in p.read_bytes()]
        assert not [p for p in (root / "incoming").rglob("*") if word in p.name]


def test_refused_in_a_script(root: Path, server: Server, source: Path) -> None:
    before = _state(root)
    done = _run(root, server, "north", "--from", str(source), "--refuse")
    assert (done.returncode, done.stdout.count("\n")) == (3, 1)
    assert "nothing has changed" in done.stdout
    assert _state(root) == before
    assert not (root / ".work/onboard/north").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["north", "--from", "SOURCE"], 2, "--approve NAME"),
        (["north", "--from", "SOURCE", "--approve", "A", "--refuse"], 2, "exclude"),
        (["north", "--from", "SOURCE", "--approve", " "], 2, "name of a person"),
        (["north", "--from", "missing", "--approve", "A"], 1, "missing"),
        (["No", "--from", "SOURCE", "--approve", "A"], 2, "lower-case"),
        (["north", "--from", "SOURCE", "--query", "x", "--approve", "A"], 2, "query"),
    ],
)
def test_what_is_wrong_is_one_line(
    root: Path, server: Server, source: Path, arguments: list[str], code: int, said: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """In this process: the command as it is, without the seconds that another process takes to import it."""
    before = _state(root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("PREFECT_API_URL", server.url)
    words = [str(source) if a == "SOURCE" else a for a in arguments]
    monkeypatch.setattr(sys, "argv", ["fetalflex", "onboard", *words])
    with prefect_settings(server), pytest.raises(SystemExit) as ended:
        main()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fetalflex: ")]
    assert ended.value.code == code
    assert len(lines) == 1
    assert said in lines[0]
    assert _state(root) == before


def test_a_real_center_without_a_key_asks_for_one(root: Path, server: Server, source: Path) -> None:
    (root / ".fetalflex/key").unlink()
    done = _run(root, server, "north", "--from", str(source), "--approve", "A")
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    assert "openssl rand" in done.stderr


def test_asked_at_a_terminal_the_page_is_private_and_an_edited_draft_counts(
    root: Path, server: Server, source: Path
) -> None:
    terminal = _Terminal(root, server, "north", "--from", str(source))
    terminal.expect("Approve north?")
    private = root / ".fetalflex/onboarding/north"
    assert private.stat().st_mode & 0o777 == 0o700
    assert {p.name: p.stat().st_mode & 0o777 for p in private.iterdir()} == {"index.html": 0o600, "draft.yaml": 0o600}
    assert "ZQSTUDY" in (private / "index.html").read_text()  # it shows what came
    draft = private / "draft.yaml"
    text = draft.read_text()
    assert "ZQ" not in text
    draft.write_text(text.replace("role: normal", "role: abnormal"))
    terminal.answer("yes")
    terminal.answer("Ada")
    terminal.expect("not approved yet")
    draft.write_text(text.replace("not stated", "agreement 7"))
    terminal.answer("yes")
    terminal.answer("Ada")
    assert terminal.end() == 0, terminal.said
    assert not private.exists()
    assert "agreement 7" in (root / "centers/north.yaml").read_text()
    assert read_json(root / "centers/north.approval.json")["approvals"][0]["asked"] == "terminal"
    assert not any(word in terminal.said.replace(str(source), "") for word in PLANTED)


@pytest.mark.parametrize("how", ["no", "ctrl-c"])
def test_no_and_ctrl_c_at_the_terminal_change_nothing(root: Path, server: Server, source: Path, how: str) -> None:
    before = _state(root)
    terminal = _Terminal(root, server, "north", "--from", str(source))
    terminal.expect("Approve north?")
    if how == "no":
        terminal.answer("no")
    else:
        os.killpg(terminal.process.pid, signal.SIGINT)
    assert terminal.end() == (3 if how == "no" else 130), terminal.said
    assert "Traceback" not in terminal.said
    assert _state(root) == before
    assert not (root / ".fetalflex/onboarding/north").exists()
    assert (root / ".work/onboard/north").exists() == (how == "ctrl-c")  # the next one goes on from there


def test_killed_at_the_question_nothing_has_changed_and_the_page_goes(root: Path, server: Server, source: Path) -> None:
    before = _state(root)
    terminal = _Terminal(root, server, "north", "--from", str(source))
    terminal.expect("Approve north?")
    os.killpg(terminal.process.pid, signal.SIGKILL)
    terminal.end()
    _wait(lambda: not (root / ".fetalflex/onboarding/north").exists(), 30)
    assert _state(root) == before
    done = _run(root, server, "north", "--from", str(source), "--approve", "Ada", "--json")
    assert json.loads(done.stdout)["new_files"] == 4


def test_killed_while_it_fetches_every_file_arrives_once(root: Path, server: Server, tmp_path: Path) -> None:
    source = tmp_path / "many"
    write_image(source / "000.dcm", 1, spacing_mm=(0.2, 0.2))
    whole = (source / "000.dcm").read_bytes()
    for number in range(1, 400):  # other pixels each: equal bytes would be one file
        (source / f"{number:03d}.dcm").write_bytes(whole[:-2] + number.to_bytes(2, "big"))
    journal = root / ".work/onboard/north/.north.fetch/journal"
    terminal = _Terminal(root, server, "north", "--from", str(source))
    _wait(lambda: journal.is_file() and journal.read_text().count("arrived") > 5)
    os.killpg(terminal.process.pid, signal.SIGKILL)
    terminal.end()
    arrived = journal.read_text().count("arrived ")
    assert arrived < 400
    assert not (root / "incoming/north").exists()
    done = _run(root, server, "north", "--from", str(source), "--approve", "Ada", "--trial", "1", "--json")
    found = json.loads(done.stdout)
    assert found["files"] == 400
    assert len(list((root / "incoming/north").rglob("*.dcm"))) == 400
    journal = root / "incoming/.north.fetch/journal"
    names = [line.split()[0] for line in journal.read_text().splitlines()[1:]]
    assert len(set(names)) == 400
    assert len(names) <= 401  # the one that was at work may be noted twice


_DEPLOYED = """
import os, sys
os.environ["PREFECT__RUNTIME__DEPLOYMENT__ID"] = "one"
from flows.onboard import onboard
state = onboard("north", source=sys.argv[1], trial=1, poll_s=1, return_state=True)
print(state.name, state.message)
"""


def _ask_server(server: Server, path: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"{server.url}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    (answer,) = _wait(lambda: _answered(request), 60)
    return answer


def _answered(request: urllib.request.Request) -> tuple[Any, ...]:
    """Return the answer; nothing where the server is busy: another writer holds its database, and it says 503."""
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return (json.loads(answer.read()),)
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
            raise
    return ()


@pytest.mark.parametrize("approve", [True, False])
def test_on_a_server_the_flow_pauses_until_its_form_is_answered(
    root: Path, server: Server, source: Path, tmp_path: Path, request: pytest.FixtureRequest, approve: bool
) -> None:
    plain = source.rename(tmp_path / "plain")
    before = _state(root)
    process = subprocess.Popen(
        [sys.executable, "-c", _DEPLOYED, str(plain)], cwd=root, env=_environment(server),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    request.addfinalizer(process.kill)  # a run that a failed test leaves paused would be found by the next
    paused = {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}}
    (run,) = _wait(lambda: _ask_server(server, "flow_runs/filter", paused))
    assert run["name"] == "onboard north"
    assert (root / ".fetalflex/onboarding/north/index.html").is_file()
    # A run is paused a moment before its form is stored, and refuses to be resumed until then.
    form = {"prefix": run["state"]["state_details"]["run_input_keyset"]["schema"]}
    _wait(lambda: _ask_server(server, f"flow_runs/{run['id']}/input/filter", form))
    answer = {"run_input": {"approve": approve, "your_name": "Ada"}}
    assert _ask_server(server, f"flow_runs/{run['id']}/resume", answer)["status"] == "ACCEPT"
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert ("approved" if approve else "refused") in said
    assert (_state(root) == before) == (not approve)
    assert not (root / ".fetalflex/onboarding/north").exists()
    if approve:
        (entry,) = read_json(root / "centers/north.approval.json")["approvals"]
        assert (entry["approved_by"], entry["asked"]) == ("Ada", "server")


def test_the_agreed_pace_holds_over_a_whole_onboarding(
    root: Path, server: Server, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = shutil.which("storescu")
    if program is None:
        pytest.skip("storescu is not installed (Debian: apt-get install dcmtk)")
    (tmp_path / "orthanc").mkdir()
    with running_orthanc(tmp_path / "orthanc", verbose=True) as hospital:
        monkeypatch.setitem(_SECRETS, "FETALFLEX_DICOMWEB_USER", hospital.user)
        monkeypatch.setitem(_SECRETS, "FETALFLEX_DICOMWEB_PASSWORD", hospital.password)
        words = [
            program,
            "-aet",
            "VOLUSON1",
            "-aec",
            hospital.title,
            "+sd",
            "+r",
            "127.0.0.1",
            str(hospital.dicom_port),
        ]
        subprocess.run([*words, str(source)], check=True, capture_output=True, timeout=60)
        done = _run(
            root, server, "north", "--from", hospital.dicomweb, "--pace", "requests=4", "--approve", "A", "--json"
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["images"] == 4
        times = hospital.requests()
    assert len(times) > 4
    assert most_in_a_second(times) <= 4 + 1
