"""Against a real Orthanc, with the configuration of docs/howto/sources.md: what a hospital pushes arrives here."""

import multiprocessing
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from fetalflex.dicom.write import UltrasoundImage, derive_uid, write_ultrasound
from fetalflex.errors import MissingSecretError
from fetalflex.sources.dicomweb import DicomwebSource
from fetalflex.sources.query import Manners, Query, parse_pace
from tests.fetalflex.sources.orthanc import MISSING, Orthanc, is_installed, most_in_a_second, running_orthanc
from tests.fetalflex.sources.trees import KEY, fetch, states

NUMBER, PATIENTS = 24, 6
FAST = Manners(requests_per_s=1e6, page=5)
pytestmark = pytest.mark.skipif(not is_installed(), reason=MISSING)


@pytest.fixture(scope="module")
def sent(tmp_path_factory) -> Path:
    """Two dozen images of six patients, as a device would send them."""
    folder = tmp_path_factory.mktemp("sent")
    rng = np.random.default_rng(5)
    for n in range(NUMBER):
        image = UltrasoundImage(
            pixels=rng.integers(0, 255, (40, 60), np.uint8),
            sop_uid=derive_uid("t", n, "image"),
            study_uid=derive_uid("t", n % PATIENTS, "study"),
            series_uid=derive_uid("t", n, "series"),
            patient_id=f"patient {n % PATIENTS}",
            study_description="Fetal BRAIN" if n % PATIENTS < 2 else "Fetal growth",
            series_description="",
        )
        write_ultrasound(folder / f"{n}.dcm", image)
    return folder


@pytest.fixture(scope="module")
def orthanc(sent: Path, tmp_path_factory) -> Iterator[Orthanc]:
    """The server, filled by C-STORE."""
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        pushed = push(server, sent, server_title := "VOLUSON1")
        assert pushed.returncode == 0, f"{server_title}: {pushed.stderr}"
        yield server


@pytest.fixture(autouse=True)
def credentials(orthanc: Orthanc, monkeypatch) -> None:
    monkeypatch.delenv("FETALFLEX_DICOMWEB_TOKEN", raising=False)
    monkeypatch.setenv("FETALFLEX_DICOMWEB_USER", orthanc.user)
    monkeypatch.setenv("FETALFLEX_DICOMWEB_PASSWORD", orthanc.password)


def push(server: Orthanc, folder: Path, title: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("storescu")
    if program is None:
        pytest.skip("storescu is not installed (Debian: apt-get install dcmtk)")
    words = [program, "-aet", title, "-aec", server.title, "-R", "+sd", "+r", "127.0.0.1", str(server.dicom_port)]
    return subprocess.run([*words, str(folder)], capture_output=True, text=True, timeout=60)


def uids(folder: Path) -> Counter[str]:
    return Counter(str(pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID) for p in folder.rglob("*.dcm"))


def test_what_was_pushed_arrives_once_and_equal(orthanc: Orthanc, sent: Path, tmp_path: Path) -> None:
    source = DicomwebSource(orthanc.dicomweb, manners=FAST)
    listing = source.listing()
    assert (listing.instances, listing.patients, dict(listing.by_modality)) == (NUMBER, PATIENTS, {"US": NUMBER})
    assert states(fetch(source, tmp_path / "c")) == {"new": NUMBER}
    assert uids(tmp_path / "c") == uids(sent)
    pixels = {d.SOPInstanceUID: d.PixelData for d in map(pydicom.dcmread, sent.rglob("*.dcm"))}
    for path in (tmp_path / "c").rglob("*.dcm"):
        data = pydicom.dcmread(path)
        assert data.PixelData == pixels[data.SOPInstanceUID]
    assert states(fetch(DicomwebSource(orthanc.dicomweb, manners=FAST), tmp_path / "c")) == {"known": NUMBER}


def test_a_query_chooses_by_words_patients_and_dates(orthanc: Orthanc) -> None:
    def count(**query: object) -> int:
        return DicomwebSource(orthanc.dicomweb, Query(**query), manners=FAST).listing().instances

    assert count(words=("brain",)) == 2 * NUMBER // PATIENTS
    assert count(words=("growth", "brain")) == NUMBER
    assert count(patients=1) == NUMBER // PATIENTS


def test_a_title_that_is_not_listed_may_not_store(orthanc: Orthanc, sent: Path) -> None:
    refused = push(orthanc, sent, "STRANGER")
    assert refused.returncode != 0
    assert "Calling AE Title Not Recognized" in refused.stderr


def test_reading_takes_the_password(orthanc: Orthanc, monkeypatch) -> None:
    monkeypatch.setenv("FETALFLEX_DICOMWEB_PASSWORD", "wrong")
    with pytest.raises(MissingSecretError):
        DicomwebSource(orthanc.dicomweb, manners=FAST).listing()


def fetch_until_killed(address: str, into: Path, stop_after: int) -> None:
    for number, _ in enumerate(DicomwebSource(address, manners=FAST).fetch(into, KEY), 1):
        if number == stop_after:
            os.kill(os.getpid(), signal.SIGKILL)


def test_killed_three_times_every_instance_arrives_once(orthanc: Orthanc, sent: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    for stop_after in (3, 8, 20):
        child = context.Process(target=fetch_until_killed, args=(orthanc.dicomweb, tmp_path / "c", stop_after))
        child.start()
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
    events = fetch(DicomwebSource(orthanc.dicomweb, manners=FAST), tmp_path / "c")
    assert states(events) == {"known": 20, "new": 4}
    assert uids(tmp_path / "c") == uids(sent)


def test_the_server_itself_sees_no_more_requests_a_second_than_agreed(sent: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "server").mkdir()
    with running_orthanc(tmp_path / "server", verbose=True) as server:
        assert push(server, sent, "VOLUSON1").returncode == 0
        monkeypatch.setenv("FETALFLEX_DICOMWEB_PASSWORD", server.password)
        two, paced = Query(patients=2), replace(parse_pace("requests=6"), page=5)
        assert states(fetch(DicomwebSource(server.dicomweb, two, manners=paced), tmp_path / "paced")) == {"new": 8}
        kept = server.requests()
        # The same without a limit: else it would be the server that was slow.
        assert states(fetch(DicomwebSource(server.dicomweb, two, manners=FAST), tmp_path / "fast")) == {"new": 8}
        hasty = server.requests()[len(kept) :]
    assert len(kept) == len(hasty) > 8
    # One that arrived late may be followed by one on time: one more in a second than is agreed.
    assert most_in_a_second(kept) <= 6 + 1
    assert (len(kept) - 1) / (kept[-1] - kept[0]) <= 6.1
    assert most_in_a_second(hasty) > 6 + 1
