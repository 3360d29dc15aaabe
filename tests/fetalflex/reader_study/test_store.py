import sqlite3
import stat
from pathlib import Path

import pytest

from fetalflex.errors import ArtifactError, UsageError
from fetalflex.reader_study.store import FILE, Store, TurnedError, UnknownReaderError
from fetalflex.reader_study.study import write_links
from tests.fetalflex.reader_study.studies import answer, make, read_all


def test_answers_are_kept_and_a_reader_goes_on_where_they_stopped(tmp_path: Path) -> None:
    store, tokens = make(tmp_path / "study")
    token = tokens["R01"]
    read_all(store, token, lambda *_: answer(structures=("head",), comment="sharp"), stop=7)
    place = Store(tmp_path / "study").place(token)
    assert (place.position, place.total) == (8, 20)
    rows = store.rows()
    assert [r["position"] for r in rows] == list(range(1, 8))
    assert {(r["structures"], r["comment"], r["seconds"], r["role"]) for r in rows} == {
        ('["head"]', "sharp", 4.0, "Sonographer")
    }
    assert store.readers() == [("R01", 7, 20), ("R02", 0, 20)]


def test_there_is_no_going_back_and_no_looking_ahead(tmp_path: Path) -> None:
    store, tokens = make(tmp_path / "study")
    token = tokens["R01"]
    with pytest.raises(TurnedError, match="consent"):
        store.image(token, 1, 0.0)
    read_all(store, token, lambda *_: answer(), stop=3)
    for position in (1, 3, 5, 20, 99):
        with pytest.raises(TurnedError, match="not your next"):
            store.image(token, position, 0.0)
        with pytest.raises(TurnedError, match="not your next"):
            store.answer(token, position, answer("synthetic"), 0.0)
    assert {r["verdict"] for r in store.rows()} == {"real"}


def test_an_answer_that_does_not_fit_is_not_stored(tmp_path: Path) -> None:
    store, tokens = make(tmp_path / "study")
    store.consent(tokens["R01"], "", None, "now")
    store.image(tokens["R01"], 1, 0.0)
    with pytest.raises((TurnedError, sqlite3.IntegrityError)):
        store.answer(tokens["R01"], 1, answer(realism=9), 1.0)
    assert store.rows() == []
    assert store.place(tokens["R01"]).position == 1


def test_tokens_are_not_stored_and_files_are_their_owners_alone(tmp_path: Path) -> None:
    store, tokens = make(tmp_path / "study")
    data = store.path.read_bytes()
    assert not any(t.encode() in data for t in tokens.values())
    links = write_links(tmp_path / "study", tokens, "http://127.0.0.1:8601/")
    assert links.read_text().splitlines()[0] == f"R01\thttp://127.0.0.1:8601/r/{tokens['R01']}"
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in (links, store.path))
    with pytest.raises(UnknownReaderError):
        store.place("another")


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        make(tmp_path)
    assert not (tmp_path / FILE).exists()
    with pytest.raises(ArtifactError, match="no reader study"):
        Store(tmp_path)


def test_consent_is_noted_once(tmp_path: Path) -> None:
    store, tokens = make(tmp_path / "study")
    store.consent(tokens["R01"], "Midwife", 3, "first")
    store.consent(tokens["R01"], "Other", 9, "second")
    read_all(store, tokens["R01"], lambda *_: answer(), stop=1)
    assert (store.rows()[0]["role"], store.rows()[0]["years"]) == ("Midwife", 3)
