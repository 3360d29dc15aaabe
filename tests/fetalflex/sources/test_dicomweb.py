import ipaddress
import logging
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fetalflex.errors import MissingSecretError, Reason, SourceError
from fetalflex.sources.base import Limits
from fetalflex.sources.dicomweb import DicomwebSource
from fetalflex.sources.query import Manners, Query
from tests.fetalflex.sources.server import QUICK, Answer, FakeServer, multipart, serving
from tests.fetalflex.sources.trees import contents, fetch, reasons, states

INSTANCES = {f"1.2.{n}": bytes([n]) * 5000 for n in range(7)}
QUERY = Query(modalities=("US",))


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch) -> None:
    for name in ("TOKEN", "USER", "PASSWORD"):
        monkeypatch.delenv(f"FETALFLEX_DICOMWEB_{name}", raising=False)


def source(server: FakeServer, manners: Manners = QUICK, limits: Limits | None = None) -> DicomwebSource:
    return DicomwebSource(server.address, QUERY, limits or Limits(), manners)


def is_instance(path: str) -> bool:
    return path.count("/") == 6


@pytest.mark.parametrize("studies", [1, 3])
@pytest.mark.parametrize("ignores_offset", [False, True])
def test_pages_of_a_server_that_gives_fewer_or_all_at_once_are_read_to_the_end(
    studies, ignores_offset, tmp_path
) -> None:
    with serving(FakeServer(INSTANCES, studies=studies, ignores_offset=ignores_offset)) as server:
        listing = source(server).listing()
        assert (listing.instances, listing.studies, listing.patients) == (7, studies, studies)
        assert dict(listing.by_modality) == {"US": 7}
        assert states(fetch(source(server), tmp_path / "c")) == {"new": 7}
        asked = len(server.asked)
        assert states(fetch(source(server), tmp_path / "c")) == {"known": 7}
        assert not any(is_instance(p.partition("?")[0].removeprefix("/dicom-web")) for p, _ in server.asked[asked:])
    assert contents(tmp_path / "c") == dict.fromkeys(INSTANCES.values(), 1)


def test_rows_that_a_server_loses_behind_an_offset_are_found(tmp_path: Path) -> None:
    with serving(FakeServer({f"1.2.{n}": b"x" for n in range(50)}, studies=14, loses_offset=True)) as server:
        listing = source(server).listing()
    assert (listing.instances, listing.studies) == (50, 14)


def test_an_instance_that_is_listed_twice_or_under_no_uid_comes_once_or_not(tmp_path: Path) -> None:
    twice = {"0020000E": {"vr": "UI", "Value": ["1.0.1"]}, "00080018": {"vr": "UI", "Value": ["1.2.3"]}}
    none = {"0020000E": {"vr": "UI", "Value": ["1.0.1"]}, "00080018": {"vr": "UI", "Value": ["../../etc"]}}
    with serving(FakeServer(INSTANCES, extra=[twice, none, {"00080018": "nonsense"}])) as server:
        events = fetch(source(server), tmp_path / "c")
    assert states(events) == {"new": 7, "refused": 2}
    assert reasons(events) == {Reason.BAD_IDENTIFIER: 2}


def test_patients_are_limited_and_a_study_without_a_wanted_series_is_left_out(tmp_path: Path) -> None:
    with serving(FakeServer(INSTANCES, studies=3)) as server:
        two = DicomwebSource(server.address, Query(("US",), patients=2), Limits(), QUICK)
        assert two.listing().patients == 2
        with pytest.raises(SourceError, match="no instance matches"):
            DicomwebSource(server.address, Query(("MR",)), Limits(), QUICK).listing()


FAILURES = {
    "429": Answer(status=429, headers={"Retry-After": "0"}),
    "503": Answer(status=503),
    "500": Answer(status=500),
    "short": Answer(b"--b\r\n\r\nhalf", headers=multipart().headers, announced=10_000),
    "cut": Answer(b"--b\r\n\r\nhalf", headers=multipart().headers),
    "silent": Answer(silent=True),
}


@pytest.mark.parametrize(
    ("failure", "where"),
    [(f, w) for f in FAILURES for w in ("search", "instance") if (f, w) != ("cut", "search")],  # that is no cut JSON
)
def test_what_passes_is_tried_again(failure: str, where: str, tmp_path: Path) -> None:
    def plan(path: str, often: int) -> Answer | None:
        return FAILURES[failure] if is_instance(path) == (where == "instance") and often < 1 else None

    with serving(FakeServer({"1.2.0": INSTANCES["1.2.3"]}, plan)) as server:
        assert states(fetch(source(server), tmp_path / "c")) == {"new": 1}
    assert contents(tmp_path / "c") == {INSTANCES["1.2.3"]: 1}


LASTING = {
    "missing": Answer(status=404),
    "error": Answer(status=500),
    "not acceptable": Answer(status=406),
    "html": Answer(b"<html>", headers={"Content-Type": "text/html"}),
    "no type": Answer(b"x"),
    "jpeg part": multipart(b"x", kind="image/jpeg"),
    "two parts": multipart(b"x", b"y"),
    "no part": multipart(),
    "always cut": FAILURES["cut"],
}


@pytest.mark.parametrize("failure", LASTING)
def test_what_lasts_is_refused_for_one_instance_and_the_others_arrive(failure: str, tmp_path: Path) -> None:
    def plan(path: str, often: int) -> Answer | None:
        return LASTING[failure] if path.endswith("/1.2.3") else None

    with serving(FakeServer(INSTANCES, plan)) as server:
        events = fetch(source(server), tmp_path / "c")
        assert states(events) == {"new": 6, "refused": 1}
        assert reasons(events) == {Reason.NOT_RETRIEVED: 1}
        server.plan = lambda path, often: None
        assert states(fetch(source(server), tmp_path / "c")) == {"known": 6, "new": 1}
    assert contents(tmp_path / "c") == dict.fromkeys(INSTANCES.values(), 1)


def test_a_server_that_stays_overloaded_ends_the_fetch_and_the_next_one_goes_on(tmp_path: Path) -> None:
    def plan(path: str, often: int) -> Answer | None:
        return Answer(status=503) if path.endswith("/1.2.3") else None

    with serving(FakeServer(INSTANCES, plan)) as server:
        with pytest.raises(SourceError, match="503 after 3 attempts"):
            fetch(source(server), tmp_path / "c")
        server.plan = lambda path, often: None
        assert states(fetch(source(server), tmp_path / "c")) == {"known": 3, "new": 4}


def test_a_long_retry_after_ends_the_fetch_instead_of_sleeping(tmp_path: Path) -> None:
    plan = lambda path, often: Answer(status=429, headers={"Retry-After": "86400"})  # noqa: E731
    with serving(FakeServer(INSTANCES, plan)) as server, pytest.raises(SourceError, match="86400 s"):
        fetch(source(server), tmp_path / "c")


def test_credentials_are_asked_for_when_refused(tmp_path: Path) -> None:
    plan = lambda path, often: Answer(status=401)  # noqa: E731
    with serving(FakeServer(INSTANCES, plan)) as server, pytest.raises(MissingSecretError, match="DICOMWEB_TOKEN"):
        fetch(source(server), tmp_path / "c")


def test_a_redirect_to_another_server_is_refused_before_credentials_get_there(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FETALFLEX_DICOMWEB_TOKEN", "secret-token")
    with serving(FakeServer(INSTANCES)) as other:
        plan = lambda path, often: Answer(status=302, headers={"Location": other.address + path})  # noqa: E731
        with serving(FakeServer(INSTANCES, plan)) as server, pytest.raises(SourceError, match="another server"):
            fetch(source(server), tmp_path / "c")
    assert server.asked[0][1]["Authorization"] == "Bearer secret-token"
    assert not other.asked


def test_a_redirect_within_the_server_is_followed(tmp_path: Path) -> None:
    def plan(path: str, often: int) -> Answer | None:
        return (
            Answer(status=307, headers={"Location": "/dicom-web" + path + "?offset=0&limit=9"}) if not often else None
        )

    with serving(FakeServer({"1.2.0": b"x"}, plan)) as server:
        assert states(fetch(source(server), tmp_path / "c")) == {"new": 1}


def test_large_instances_and_answers_are_refused(monkeypatch, tmp_path: Path) -> None:
    with serving(FakeServer(INSTANCES)) as server:
        events = fetch(source(server, limits=Limits(file_bytes=4999)), tmp_path / "c")
        assert reasons(events) == {Reason.TOO_LARGE: 7}
        monkeypatch.setattr("fetalflex.sources.polite.ANSWER_BYTES", 100)
        with pytest.raises(SourceError, match="more than 100 bytes"):
            source(server).listing()


@pytest.mark.parametrize("body", [b"no json", b"[1]", b'"text"', b'[{"0020000D": 3}]'])
def test_answers_that_are_no_dicom_json_end_in_an_error(body: bytes) -> None:
    with serving(FakeServer(INSTANCES, lambda path, often: Answer(body))) as server, pytest.raises(SourceError):
        source(server).listing()


def test_neither_logs_nor_errors_hold_uids_or_credentials(monkeypatch, caplog, tmp_path: Path) -> None:
    monkeypatch.setenv("FETALFLEX_DICOMWEB_USER", "steward")
    monkeypatch.setenv("FETALFLEX_DICOMWEB_PASSWORD", "secret-word")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # not asked for what is on this machine
    caplog.set_level(logging.DEBUG)
    with serving(
        FakeServer({"1.2.840.77": b"x"}, lambda p, n: Answer(status=404) if is_instance(p) else None)
    ) as server:
        (event,) = fetch(source(server), tmp_path / "c")
    told = caplog.text + event.detail + str(event)
    assert server.asked[0][1]["Authorization"].startswith("Basic ")
    assert not any(
        word in told for word in ("1.2.840.77", "secret-word", "steward", server.asked[0][1]["Authorization"])
    )


def test_a_server_that_is_gone_is_told_without_its_address(tmp_path: Path) -> None:
    with serving(FakeServer(INSTANCES)) as server:
        gone = source(server)
    with pytest.raises(SourceError, match="after 3 attempts") as caught:
        gone.listing()
    assert "/studies" not in str(caught.value)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate and its key for loopback that no authority signed, as PEM in one file."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(private, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private.private_bytes(*form) + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_a_certificate_that_nobody_vouches_for_is_refused_unless_its_authority_is_named(
    certificate: Path, monkeypatch, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    with serving(FakeServer(INSTANCES), context) as server:
        with pytest.raises(SourceError, match="cannot be verified"):
            source(server).listing()
        assert not server.asked
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert states(fetch(source(server), tmp_path / "c")) == {"new": 7}
