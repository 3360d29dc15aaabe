"""Nothing that reaches a reader tells what an image is, but the image itself."""

import io
import re
import sqlite3
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from fetalflex.errors import UsageError
from fetalflex.reader_study.api import create_app
from fetalflex.reader_study.blind import BLACK, blinded
from fetalflex.reader_study.store import Store
from fetalflex.web.guard import Rules
from tests.fetalflex.reader_study.studies import candidates, make, truths

ANSWER = {"verdict": "real", "realism": 3, "plane_correct": "yes"}


@pytest.fixture
def study(tmp_path: Path) -> tuple[Store, dict[str, str]]:
    return make(tmp_path / "study")


def walk(store: Store, token: str) -> list[tuple[str, dict[str, object], dict[str, str], bytes, float]]:
    """Read a whole study; return (truth, state, headers, image, seconds) of every image."""
    client = TestClient(create_app(store, Rules()), base_url="http://127.0.0.1")
    known, found = truths(store), []
    client.post(f"/r/{token}/consent", json={})
    state = client.get(f"/r/{token}/state").json()
    with store._base() as base:
        images = dict(base.execute("SELECT position, image FROM showings WHERE reader = ?", (state["reader"],)))
    while state["position"]:
        began = time.perf_counter()
        answer = client.get(f"/r/{token}/image/{state['position']}")
        took = time.perf_counter() - began
        found.append((known[images[state["position"]]], state, dict(answer.headers), answer.content, took))
        state = client.post(f"/r/{token}/answer", json=ANSWER | {"position": state["position"]}).json()
    return found


def test_what_is_sent_has_one_form_whatever_the_image_is(study: tuple[Store, dict[str, str]]) -> None:
    store, tokens = study
    seen = walk(store, tokens["R01"])
    assert {t for t, *_ in seen} == {"real", "synthetic"}
    assert len({len(data) for *_, data, _ in seen}) == 1
    assert len({tuple(sorted(h.items())) for _, _, h, *_ in seen}) == 1
    assert len({tuple(sorted(s.keys() - {"title", "consent"})) for _, s, *_ in seen}) == 1
    for _, state, _, data, _ in seen:
        chunks, at = [], 8
        while at < len(data):
            chunks.append(data[at + 4 : at + 8])
            at += 12 + int.from_bytes(data[at : at + 4], "big")
        assert set(chunks) == {b"IHDR", b"IDAT", b"IEND"}
        with Image.open(io.BytesIO(data)) as opened:
            assert (opened.mode, opened.size, opened.info) == ("L", (32, 32), {})
        text = repr(state)
        assert not re.search(r"north|south|real-|made-|origin|truth|case", text)


def test_padding_is_equally_black_in_both_kinds() -> None:
    for one, png in zip(candidates(), blinded([c.pixels for c in candidates()], 32), strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(png)))
        assert not pixels[:6].any()
        assert np.array_equal(pixels[pixels > 0], one.pixels[one.pixels > BLACK])
    with pytest.raises(UsageError, match="square"):
        blinded([np.zeros((8, 9), np.uint8)], 8)


def test_a_larger_or_smaller_image_gets_the_size_of_all() -> None:
    sizes = {len(b) for b in blinded([np.full((n, n), 99, np.uint8) for n in (16, 32, 50)], 32)}
    assert len(sizes) == 1


def test_the_order_of_images_in_the_file_tells_nothing(study: tuple[Store, dict[str, str]]) -> None:
    known = truths(study[0])
    runs = sum(known[i] != known[i + 1] for i in range(len(known) - 1))
    assert 3 <= runs <= 13  # sorted by kind would be 1, in turn 15


def test_serving_takes_the_same_way_and_the_same_time(study: tuple[Store, dict[str, str]]) -> None:
    store, tokens = study
    seen = walk(store, tokens["R01"]) + walk(store, tokens["R02"])
    medians = {t: statistics.median(s for truth, *_, s in seen if truth == t) for t in ("real", "synthetic")}
    assert max(medians.values()) < 3 * min(medians.values())


def test_an_image_is_served_without_asking_what_it_is(study: tuple[Store, dict[str, str]]) -> None:
    store, tokens = study
    asked: list[str] = []
    real = store._base

    @contextmanager
    def traced() -> Iterator[sqlite3.Connection]:
        with real() as base:
            base.set_trace_callback(asked.append)
            yield base

    store._base = traced  # type: ignore[method-assign]
    walk_one(store, tokens["R01"])
    assert any("png" in s for s in asked)
    assert not any(word in s for s in asked for word in ("truth", "origin", "center"))


def walk_one(store: Store, token: str) -> None:
    client = TestClient(create_app(store, Rules()), base_url="http://127.0.0.1")
    client.post(f"/r/{token}/consent", json={})
    assert client.get(f"/r/{token}/image/1").status_code == 200
    assert client.post(f"/r/{token}/answer", json=ANSWER | {"position": 1}).status_code == 200


def test_without_its_link_nothing_is_answered(study: tuple[Store, dict[str, str]]) -> None:
    store, tokens = study
    client = TestClient(create_app(store, Rules("a-token-that-nobody-has")), base_url="http://study.example")
    for path in ("/", "/study.sqlite", "/results.html", "/links.txt", "/docs"):
        assert client.get(path).status_code == 401
    assert client.get("/r/another").status_code == 404
    assert client.get("/r/another/image/1").status_code == 404
    assert client.get(f"/r/{tokens['R01']}").status_code == 200
    assert client.get(f"/r/{tokens['R01']}/image/1").status_code == 409  # the consent comes first


@pytest.mark.parametrize(
    "wrong", [{"verdict": "maybe"}, {"realism": 0}, {"realism": 6}, {"plane_correct": "?"}, {"comment": "x" * 2001}]
)
def test_an_answer_that_no_page_sends_is_refused(study: tuple[Store, dict[str, str]], wrong: dict[str, object]) -> None:
    store, tokens = study
    client = TestClient(create_app(store, Rules()), base_url="http://127.0.0.1")
    client.post(f"/r/{tokens['R01']}/consent", json={})
    assert client.post(f"/r/{tokens['R01']}/answer", json=ANSWER | {"position": 1} | wrong).status_code == 422
    assert store.rows() == []
