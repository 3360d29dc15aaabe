"""A real Orthanc for tests: on loopback, on free ports, with the configuration that docs/howto/sources.md shows."""

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "sources.md"
PROGRAM = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
PLUGINS = (Path("/usr/share/orthanc/plugins"), Path("/usr/lib/orthanc"))
STARTS_WITHIN_S = 30.0
MISSING = "Orthanc is not installed (Debian: apt-get install orthanc orthanc-dicomweb)"


@dataclass(frozen=True)
class Orthanc:
    """A running server: its DICOMweb address, its DICOM port, its AE title."""

    dicomweb: str
    dicom_port: int
    title: str
    user: str
    password: str
    log: Path

    def requests(self) -> list[float]:
        """Return when each DICOMweb request arrived, seconds of the day, as a verbose server logged it."""
        found = re.findall(r"^I\d{4} (\d\d):(\d\d):(\d\d\.\d{6}).* GET /dicom-web/", self.log.read_text(), re.MULTILINE)
        return [3600.0 * int(h) + 60.0 * int(m) + float(s) for h, m, s in found]


def most_in_a_second(times: list[float]) -> int:
    """Return how many requests arrived within any one second, a millisecond less: clocks and sleeps are not exact."""
    return max(sum(0 <= b - a < 0.999 for b in times) for a in times)


def page_configuration() -> dict[str, Any]:
    """Return the configuration of the page."""
    (text,) = re.findall(r"^```json\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return json.loads(text)


def is_installed() -> bool:
    """Return whether Orthanc and its DICOMweb plugin are there."""
    return PROGRAM is not None and any(p.glob("*OrthancDicomWeb.so*") for p in PLUGINS if p.is_dir())


@contextmanager
def running_orthanc(folder: Path, *, verbose: bool = False, **changes: Any) -> Iterator[Orthanc]:
    """Run Orthanc in `folder` until the block ends; `changes` of the page's configuration.

    `verbose`: its log names every request, with the time (`Orthanc.requests`).
    """
    if PROGRAM is None or not is_installed():
        pytest.skip(MISSING)
    http, dicom = free_ports(2)
    config = page_configuration() | {"HttpPort": http, "DicomPort": dicom} | changes
    config["StorageDirectory"] = config["IndexDirectory"] = str(folder / "storage")
    (folder / "orthanc.json").write_text(json.dumps(config))
    user, password = next(iter(config["RegisteredUsers"].items()))
    with (folder / "orthanc.log").open("wb") as log:
        words = [PROGRAM, *(["--verbose"] if verbose else []), str(folder / "orthanc.json")]
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder)
    try:
        address = f"http://127.0.0.1:{http}/dicom-web"
        _wait_until_it_answers(process, address, folder / "orthanc.log")
        yield Orthanc(address, dicom, config["DicomAet"], user, password, folder / "orthanc.log")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_ports(number: int) -> list[int]:
    """Return ports of loopback that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [s.getsockname()[1] for s in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_until_it_answers(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{address}/studies", timeout=2):
                return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 401:  # it asks for credentials: it answers
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"Orthanc did not start: {log.read_text(errors='replace')[-2000:]}")
