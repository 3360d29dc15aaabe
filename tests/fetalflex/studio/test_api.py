"""The studio's answers over HTTP: starting, editing, making, and that nobody sees what is another's."""

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from fetalflex.artifacts import encode_png
from fetalflex.studio.starts import CaseEntry
from fetalflex.studio.work import MOST_WAITING
from fetalflex.synthesis.picture import Picture
from fetalflex.web.guard import Guard, Rules
from tests.fetalflex import tiny
from tests.fetalflex.dicom.samples import write_image
from tests.fetalflex.studio.rooms import desk, ended, head, made_image, opened, running, visit
from tests.fetalflex.synthesis import made


class OneCase:
    """A dataset of one case."""

    def listed(self) -> list[CaseEntry]:
        return [CaseEntry("case-0000000000000001", "transventricular", "near")]

    def open(self, case_id: str) -> tuple[Picture, object]:
        assert case_id == "case-0000000000000001"
        return Picture(tiny.cases().images[0], 2.0), tiny.cases().layout(0)


@pytest.fixture(scope="module")
def app() -> Iterator[Guard]:
    with running(cases=OneCase()) as found:
        yield found


def pixels(client: TestClient, path: str) -> np.ndarray:
    answer = client.get(path)
    assert answer.status_code == 200
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def edit(client: TestClient, **change: object) -> dict[str, object]:
    found: dict[str, object] = client.post("/api/edit", json=change).json()
    return found


def test_a_sitting_can_begin_in_four_ways(app: Guard) -> None:
    client = visit(app)
    assert client.get("/api/state").json()["desk"] is None
    asked = {"plane": "transventricular", "center": "near", "age_weeks": 24, "seed": 1}
    sampled = client.post("/api/start", json=asked).json()["desk"]
    assert (sampled["plane"], sampled["center"], sampled["age_weeks"]) == ("transventricular", "near", 24)
    case = client.post("/api/start", json={"case": "case-0000000000000001"}).json()["desk"]
    assert (case["has_picture"], case["unit"]) == (True, "mm")
    photo = client.post("/api/upload?what=image", content=encode_png(made.picture().pixels)).json()["desk"]
    assert (photo["has_picture"], photo["width"], photo["plane"]) == (True, 96, "transventricular")
    assert np.array_equal(pixels(client, "/api/desk/image"), made.picture().pixels)
    layout = client.post("/api/upload?what=layout", content=head().to_json()).json()["desk"]
    assert [o["structure"] for o in layout["objects"]] == ["head", "csp", "lateral-ventricle"]


def test_an_edit_changes_the_layout_and_its_measures_and_undo_takes_it_back(app: Guard) -> None:
    client = opened(app)
    before = desk(client)
    after = edit(client, op="transform", index=2, matrix=[1.5, 0, 0, 1.5, -18, -21])["desk"]
    width = {m["name"]: m for m in after["measurements"]}["atrial-width"]  # type: ignore[index]
    assert (width["status"], width["grade"]) == ("high", "mild ventriculomegaly")
    assert client.post("/api/undo").json()["desk"] == before
    assert client.post("/api/redo").json()["desk"] == after


def test_a_drag_is_measured_without_changing_anything(app: Guard) -> None:
    client = opened(app)
    before = desk(client)
    asked = {"op": "transform", "index": 2, "matrix": [1.5, 0, 0, 1.5, -18, -21]}
    found = {m["name"]: m["value"] for m in client.post("/api/measure", json=asked).json()["measurements"]}
    assert found["atrial-width"] > 10
    assert desk(client) == before


def test_each_kind_of_edit_is_answered(app: Guard) -> None:
    client = opened(app)
    assert len(edit(client, op="add", structure="choroid-plexus-cyst")["desk"]["objects"]) == 4  # type: ignore[index]
    assert len(edit(client, op="delete", index=3)["desk"]["objects"]) == 3  # type: ignore[index]
    assert edit(client, op="delete", index=1, absent=True)["desk"]["absent"] == ["csp"]  # type: ignore[index]
    painted = edit(client, op="paint", index=1, points=[[40, 45], [45, 45]], radius=2)["desk"]
    assert painted["objects"][1]["kind"] == "mask"  # type: ignore[index]
    stated = edit(client, op="set", center="far", age_weeks=30)["desk"]
    assert (stated["center"], stated["age_weeks"]) == ("far", 30)  # type: ignore[index]
    wide = edit(client, op="anomalies", anomalies=[["ventriculomegaly", 14]])["desk"]
    assert wide["anomalies"] == [["ventriculomegaly", 14]]  # type: ignore[index]


@pytest.mark.parametrize(
    ("path", "sent", "said"),
    [
        ("/api/edit", {"op": "transform", "index": 9}, "no object 9"),
        ("/api/edit", {"op": "anomalies", "anomalies": [["ventriculomegaly", 99]]}, "expected 10"),
        ("/api/edit", {"op": "anomalies", "anomalies": [["bowed-femur", 30]]}, "cannot be shown"),
        ("/api/edit", {"op": "set", "center": "mars"}, "no style"),
        ("/api/edit", {"op": "set", "age_weeks": 99}, "expected 4 to 45"),
        ("/api/start", {"plane": "femur"}, "no layout statistics"),
        ("/api/start", {}, "choose a plane"),
        ("/api/jobs", {"kind": "counterfactual"}, "needs an image"),
        ("/api/results/none/open", {}, "not, or no longer"),
    ],
)
def test_what_cannot_be_is_one_sentence(app: Guard, path: str, sent: dict[str, object], said: str) -> None:
    client = opened(app)
    before = desk(client)
    answer = client.post(path, json=sent)
    assert answer.status_code == 422
    assert said in answer.json()["error"]
    assert desk(client) == before


@pytest.mark.parametrize(
    "sent", [{"op": "fly"}, {"op": "transform", "matrix": [1, 2]}, {"op": "paint", "radius": "NaN"}]
)
def test_forms_that_no_page_sends_are_refused(app: Guard, sent: dict[str, object]) -> None:
    assert opened(app).post("/api/edit", json=sent).status_code == 422


def test_generating_then_editing_is_one_way(app: Guard) -> None:
    client = opened(app)
    first = made_image(client)
    assert first["state"] == "done"
    assert first["state_now"]["desk"]["can_counterfactual"]
    edit(client, op="anomalies", anomalies=[["ventriculomegaly", 16]])
    second = made_image(client, "counterfactual")
    before, after = (pixels(client, f"/api/results/{second['result']}/{w}") for w in ("before", "image"))
    assert np.array_equal(before, pixels(client, f"/api/results/{first['result']}/image"))
    change = pixels(client, f"/api/results/{second['result']}/change")
    assert (change == 128).sum() > 0.3 * change.size
    assert np.array_equal(before[change == 128], after[change == 128])
    assert not np.array_equal(before, after)
    back = client.post(f"/api/results/{first['result']}/open").json()["desk"]
    assert (back["anomalies"], back["can_counterfactual"]) == ([], False)


def test_an_image_of_ones_own_is_not_replaced_by_a_generated_one(app: Guard) -> None:
    client = visit(app)
    client.post("/api/upload?what=image", content=encode_png(made.picture().pixels))
    made_image(client)
    assert np.array_equal(pixels(client, "/api/desk/image"), made.picture().pixels)


def test_progress_shows_both_stages_and_pictures_on_the_way(app: Guard) -> None:
    client = opened(app)
    found = made_image(client)
    assert (found["stage"], found["version"] > tiny.SAMPLE.coarse_steps) == ("fine", True)
    assert pixels(client, f"/api/jobs/{found['id']}/image").shape == (tiny.SIZE, tiny.SIZE)


def test_twenty_users_are_served_in_their_order_and_see_their_own_images_alone(app: Guard) -> None:
    clients = [opened(app) for _ in range(20)]
    jobs = [c.post("/api/jobs", json={"kind": "generate", "seed": k}).json() for k, c in enumerate(clients)]
    ahead = [client.get(f"/api/jobs/{job['id']}").json()["ahead"] for client, job in zip(clients, jobs, strict=True)]
    assert ahead == sorted(ahead)
    finished = [ended(client, job["id"]) for client, job in zip(clients, jobs, strict=True)]
    assert [f["state"] for f in finished] == ["done"] * 20
    images = [pixels(c, f"/api/results/{f['result']}/image") for c, f in zip(clients, finished, strict=True)]
    assert len({i.tobytes() for i in images}) == 20
    assert all(len(c.get("/api/state").json()["results"]) == 1 for c in clients)
    for path in (f"/api/results/{finished[0]['result']}/image", f"/api/jobs/{jobs[0]['id']}/image"):
        assert clients[1].get(path).status_code == 422
    alone = made_image(opened(app), seed=7)
    assert np.array_equal(images[7], pixels(clients[7], f"/api/results/{finished[7]['result']}/image"))
    assert alone["state"] == "done"


def test_a_user_has_one_image_on_the_way_and_can_cancel_it(app: Guard) -> None:
    first, second = opened(app), opened(app)
    running_job = first.post("/api/jobs", json={"kind": "generate", "seed": 1}).json()
    waiting = second.post("/api/jobs", json={"kind": "generate", "seed": 1}).json()
    assert "still being made" in second.post("/api/jobs", json={"kind": "generate", "seed": 2}).json()["error"]
    assert second.post(f"/api/jobs/{waiting['id']}/cancel").json()["state"] == "cancelled"
    first.post(f"/api/jobs/{running_job['id']}/cancel")
    assert ended(first, running_job["id"])["state"] in ("cancelled", "done")
    assert made_image(second)["state"] == "done"
    assert MOST_WAITING >= 20


def test_a_dicom_file_is_read_in_the_sandbox_and_leaves_nothing_on_disk(
    app: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = np.zeros((120, 160), np.uint8)
    screen[20:110, 30:150] = made.picture(1, 4).pixels[15:105, 4:124]
    write_image(tmp_path / "a.dcm", pixels=screen, spacing_mm=(0.5, 0.5), region=(30, 20, 150, 110))
    data = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").unlink()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    client = visit(app)
    found = client.post("/api/upload?what=image&plane=transventricular", content=data)
    assert found.status_code == 200, found.text
    assert (found.json()["desk"]["unit"], found.json()["desk"]["width"]) == ("mm", 120)
    left = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert {p.name for p in left} <= {".ses"}  # the text detector's runtime counts its sessions there
    assert not any(row.tobytes() in p.read_bytes() for p in left for row in screen[20:110, 30:150] if row.any())


@pytest.mark.parametrize("data", [b"", b"no image", b"\0" * 128 + b"DICM" + b"\xff" * 50])
def test_what_is_no_image_is_refused_without_a_path(app: Guard, data: bytes) -> None:
    answer = visit(app).post("/api/upload?what=image", content=data)
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("the file: ")
    assert "/proc" not in answer.json()["error"]


def test_a_large_upload_is_cut_off() -> None:
    with running(Rules(largest=2000)) as small:
        answer = visit(small).post("/api/upload?what=image", content=iter([b"x" * 1500, b"x" * 1500]))
        assert answer.status_code == 413


def test_an_ended_sitting_leaves_nothing_behind(app: Guard) -> None:
    client = opened(app)
    found = made_image(client)
    cookies = dict(client.cookies)
    assert client.post("/api/end").json() == {"ended": True}
    client.cookies.update(cookies)
    for path in ("/api/state", f"/api/results/{found['result']}/image"):
        assert client.get(path).status_code == 410


def test_threads_of_one_user_do_not_lose_changes(app: Guard) -> None:
    client = opened(app)
    move = {"op": "transform", "index": 1, "matrix": [1, 0, 0, 1, 0.5, 0]}
    threads = [threading.Thread(target=client.post, args=("/api/edit",), kwargs={"json": move}) for _ in range(10)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert desk(client)["objects"][1]["centre"][0] == pytest.approx(66 + 5)


def test_files_beside_the_page_cannot_be_reached(app: Guard) -> None:
    client = visit(app)
    assert client.get("/page/app.js").status_code == 200
    for path in ("/page/index.html", "/page/..%2Fapi.py", "/page/%2e%2e/api.py", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 404
