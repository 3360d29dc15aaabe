from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflex.deid.keys import DEMO_KEY, PseudonymKey, key_fingerprint, keyed_hash, read_key
from fetalflex.errors import MissingSecretError

KEY = PseudonymKey(b"0123456789abcdef", "test")
SECRET = "c0ffee" * 8


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FETALFLEX_KEY", raising=False)
    monkeypatch.delenv("FETALFLEX_KEY_FILE", raising=False)


def test_the_environment_goes_before_the_named_file_and_that_before_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".fetalflex").mkdir()
    (tmp_path / ".fetalflex" / "key").write_text("workspace-" + SECRET + "\n")
    assert read_key(tmp_path).secret == b"workspace-" + SECRET.encode()
    (tmp_path / "other").write_text("file-" + SECRET)
    monkeypatch.setenv("FETALFLEX_KEY_FILE", str(tmp_path / "other"))
    assert read_key(tmp_path).secret == b"file-" + SECRET.encode()
    monkeypatch.setenv("FETALFLEX_KEY", SECRET)
    assert read_key(tmp_path, allow_demo=True).secret == SECRET.encode()


def test_without_a_key_real_centers_are_refused_and_phantoms_get_the_public_one(tmp_path: Path) -> None:
    with pytest.raises(MissingSecretError, match="openssl rand"):
        read_key(tmp_path)
    key = read_key(tmp_path, allow_demo=True)
    assert key.is_demo
    assert "public" in key.source


@pytest.mark.parametrize("bad", ["short", DEMO_KEY.decode()])
def test_refuses_short_keys_and_the_public_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    monkeypatch.setenv("FETALFLEX_KEY", bad)
    with pytest.raises(MissingSecretError, match="FETALFLEX_KEY"):
        read_key(tmp_path)


def test_a_key_file_that_cannot_be_read_is_named_by_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FETALFLEX_KEY_FILE", str(tmp_path / "absent"))
    with pytest.raises(MissingSecretError, match="FETALFLEX_KEY_FILE"):
        read_key(tmp_path)


def test_the_secret_is_in_no_representation() -> None:
    assert "0123456789" not in repr(KEY) + str(KEY)
    assert KEY.secret.hex() not in key_fingerprint(KEY)
    assert key_fingerprint(KEY) != key_fingerprint(PseudonymKey(b"0123456789abcdeg", "test"))


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_different_parts_give_different_hashes(one: list[str], other: list[str]) -> None:
    assert (keyed_hash(KEY, *one) == keyed_hash(KEY, *other)) == (one == other)


def test_hashes_are_stable_across_versions() -> None:
    assert keyed_hash(KEY, "patient", "a", 1, length=16) == "36d5f96991566e9e"
