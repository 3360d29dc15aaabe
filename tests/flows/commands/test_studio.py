"""The commands of the pages: what they refuse, what they serve, what they leave."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from fetalflex.errors import FetalFlexError
from fetalflex.reader_study.store import Store
from flows.cli import app
from tests.fetalflex.reader_study.studies import answer, candidates, read_all
from tests.fetalflex.synthesis import made

Serve = Callable[[Any, Any, Callable[[], None]], None]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[TestClient]:
    """Take the place of the server: note what would be served, say that it is ready, and end."""
    found: list[TestClient] = []

    def serve(served_app: Any, listener: Any, ready: Callable[[], None]) -> None:
        found.append(TestClient(served_app, base_url=f"http://127.0.0.1:{listener.getsockname()[1]}"))
        ready()
        assert found[-1].get("/").status_code in (200, 401, 404)
        listener.close()

    monkeypatch.setattr("fetalflex.web.serve.serve", serve)
    return found


def call(*words: object) -> str:
    done = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False, standalone_mode=False)
    return done.output


def test_the_studio_serves_a_models_folder_and_says_where(tmp_path: Path, served: list[TestClient]) -> None:
    made.pipeline().save_pretrained(tmp_path / "model")
    said = call("studio", "--model", tmp_path / "model", "--port", 0, "--no-open")
    assert "studio: http://127.0.0.1:" in said
    assert served[0].get("/").status_code == 200


def test_with_a_token_the_address_holds_it_and_nothing_is_answered_without(
    tmp_path: Path, served: list[TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    made.pipeline().save_pretrained(tmp_path / "model")
    monkeypatch.setenv("FETALFLEX_TOKEN", "a-token-of-some-length")
    said = call("studio", "--model", tmp_path / "model", "--port", 0, "--host", "0.0.0.0", "--no-open")
    assert "/?token=a-token-of-some-length" in said
    assert served[0].get("/").status_code == 401


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["studio", "--host", "0.0.0.0"], 2, "--token"),
        (["studio", "--host", "0.0.0.0", "--token", "short"], 2, "16"),
        (["studio", "--no-open"], 2, "--model"),
        (["studio", "--model", "nowhere", "--no-open"], 1, "no model here"),
        (["reader-study", "new", "study"], 1, "no workspace"),
        (["reader-study", "new", "study", "--group", "all"], 2, "--group"),
        (["reader-study", "serve", "study"], 1, "no reader study"),
        (["reader-study", "results", "study"], 1, "no reader study"),
    ],
)
def test_what_cannot_be_is_one_error_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FetalFlexError) as raised:
        call(*words)
    assert raised.value.exit_code == code
    assert said in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_study_is_made_served_read_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: list[TestClient]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tasks.workspace.find_root", lambda _: tmp_path)
    monkeypatch.setattr("tasks.reader_study.candidates", lambda *_: candidates())
    (tmp_path / "consent.txt").write_text("Our own words.")
    call(
        "reader-study", "new", "study", "--images", 8, "--repeats", 2, "--readers", 2, "--consent", "consent.txt",
        "--address", "https://study.example",
    )  # fmt: skip
    links = dict(line.split("\t") for line in (tmp_path / "study/links.txt").read_text().splitlines())
    assert links["R02"].startswith("https://study.example/r/")
    said = call("reader-study", "serve", "study", "--port", 0)
    assert "R01 0 of 10" in said
    token = links["R01"].rsplit("/", 1)[1]
    assert served[0].get(f"/r/{token}/state").json()["consent"] == "Our own words."
    read_all(Store(tmp_path / "study"), token, lambda *_: answer())
    assert "10 answers" in call("reader-study", "results", "study", "--csv", "answers.csv")
    assert "8 images, half of them real" in (tmp_path / "study/results.html").read_text()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "answers.csv").read_text())))
    assert [json.loads(r["structures"]) for r in rows] == [[]] * 10
