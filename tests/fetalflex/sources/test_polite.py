from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflex.errors import MissingSecretError, SourceError, UsageError
from fetalflex.sources.polite import Pace, PoliteSession, _retry_after, check_address, is_loopback
from fetalflex.sources.query import Manners


class Clock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@given(requests=st.integers(1, 30), rate=st.floats(0.1, 50))
def test_requests_keep_their_distance(requests: int, rate: float) -> None:
    clock = Clock()
    pace = Pace(rate, None, clock, clock.sleep)
    for _ in range(requests):
        pace.before_request()
    assert clock.now - 100 == pytest.approx((requests - 1) / rate)


@given(sizes=st.lists(st.integers(0, 10**6), max_size=20), rate=st.floats(1e3, 1e7))
def test_bytes_keep_their_pace(sizes: list[int], rate: float) -> None:
    clock = Clock()
    pace = Pace(1.0, rate, clock, clock.sleep)
    for size in sizes:
        pace.after_bytes(size)
    assert clock.now - 100 == pytest.approx(sum(sizes) / rate)


def session(monkeypatch, **manners: float) -> tuple[PoliteSession, Clock]:
    for name in ("TOKEN", "USER", "PASSWORD"):
        monkeypatch.delenv(f"FETALFLEX_DICOMWEB_{name}", raising=False)
    clock = Clock()
    polite = Manners(**manners)
    return PoliteSession("http://localhost:1/dicom-web", polite, Pace(1, None, clock, clock.sleep)), clock


def test_waits_double_and_honour_the_server(monkeypatch) -> None:
    http, clock = session(monkeypatch, first_wait_s=1)
    waits = []
    for attempt in range(1, 5):
        before = clock.now
        http.back_off(attempt)
        waits.append(clock.now - before)
    assert all(2**n <= wait <= 1.25 * 2**n for n, wait in enumerate(waits))
    before = clock.now
    http.back_off(1, 42)
    assert clock.now - before == pytest.approx(42)
    with pytest.raises(SourceError, match="asks to be left alone"):
        http.back_off(1, 301)


def test_retry_after_is_read_as_seconds_and_as_a_date() -> None:
    when = datetime.now(UTC) + timedelta(seconds=90)
    assert _retry_after({"Retry-After": "7"}) == 7
    assert _retry_after({"Retry-After": format_datetime(when, usegmt=True)}) == pytest.approx(90, abs=5)
    assert _retry_after({"Retry-After": "soon"}) is None
    assert _retry_after({}) is None


@pytest.mark.parametrize(
    "address",
    [
        "http://pacs.example/dicom-web", "https://user:secret@pacs.example/dicom-web", "https:///dicom-web",
        "https://pacs.example:port/dicom-web", "https://pacs.example/dicom-web?token=secret", "http://127.0.0.1.example/",
    ],
)  # fmt: skip
def test_addresses_that_are_not_safe_are_refused_without_repeating_secrets(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_address(address, plain_http=False)
    assert "secret" not in str(caught.value)


def test_http_is_for_this_machine_or_where_asked_for() -> None:
    assert check_address("http://127.0.0.1:8042/dicom-web", plain_http=False) == "127.0.0.1:8042"
    assert check_address("http://[::1]:8042/dicom-web", plain_http=False) == "::1:8042"
    assert check_address("http://pacs.example/dicom-web", plain_http=True) == "pacs.example"
    assert is_loopback("127.9.9.9")
    assert not is_loopback("0.0.0.0")


def test_certificates_are_verified(monkeypatch) -> None:
    http, _ = session(monkeypatch)
    assert http.verify is True
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "hospital.pem")
    assert http.merge_environment_settings("https://pacs.example", {}, None, None, None)["verify"] == "hospital.pem"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"TOKEN": "t", "USER": "u", "PASSWORD": "p"}, UsageError),
        ({"USER": "u"}, MissingSecretError),
        ({"PASSWORD": "p"}, MissingSecretError),
        ({"TOKEN": "line\nend"}, UsageError),
    ],
)
def test_credentials_that_contradict_themselves_are_refused(monkeypatch, given, error) -> None:
    session(monkeypatch)
    for name, value in given.items():
        monkeypatch.setenv(f"FETALFLEX_DICOMWEB_{name}", value)
    with pytest.raises(error):
        PoliteSession("http://localhost:1/dicom-web", Manners())


def test_no_netrc_is_read(monkeypatch, tmp_path) -> None:
    (tmp_path / ".netrc").write_text("machine localhost login a password b\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    http, _ = session(monkeypatch)
    import requests

    prepared = http.prepare_request(requests.Request("GET", "http://localhost:1/"))
    assert "Authorization" not in prepared.headers
