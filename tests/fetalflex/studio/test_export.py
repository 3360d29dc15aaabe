"""Exports: files that give the same again, and a command line that makes the very same image."""

import io
import shlex
import zipfile
from collections.abc import Iterator
from pathlib import Path

import highdicom as hd
import pydicom
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from fetalflex.artifacts import encode_png
from fetalflex.web.guard import Guard
from flows.cli import app as cli
from tests.fetalflex.studio.rooms import desk, head, layout_of, made_image, opened, running, visit
from tests.fetalflex.synthesis import made


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    made.pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def app(model: Path) -> Iterator[Guard]:
    with running(model_name=str(model)) as found:
        yield found


def unpacked(client: TestClient, result: str, folder: Path) -> Path:
    with zipfile.ZipFile(io.BytesIO(client.get(f"/api/results/{result}/all.zip").content)) as packed:
        packed.extractall(folder)
    return folder


def run_command(folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    words = shlex.split((folder / "command.txt").read_text())
    assert words[0] == "fetalflex"
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(cli, [*words[1:], *more], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_the_command_makes_a_generated_image_and_its_dicom_bit_for_bit(
    app: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = opened(app)
    folder = unpacked(client, made_image(client)["result"], tmp_path)
    run_command(folder, monkeypatch)
    assert (folder / "out/images/000000.png").read_bytes() == (folder / "image.png").read_bytes()
    text = (folder / "command.txt").read_text().replace("--out out", "--format dicom --out dicom")
    (folder / "command.txt").write_text(text)
    run_command(folder, monkeypatch)
    assert (folder / "dicom/dicom/000000.dcm").read_bytes() == (folder / "image.dcm").read_bytes()
    assert (folder / "dicom/dicom/000000-seg.dcm").read_bytes() == (folder / "image-seg.dcm").read_bytes()


def test_the_command_makes_an_image_with_an_absent_structure_bit_for_bit(
    app: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = opened(app)
    client.post("/api/edit", json={"op": "anomalies", "anomalies": [["absent-csp", 1], ["ventriculomegaly", 14]]})
    folder = unpacked(client, made_image(client)["result"], tmp_path)
    assert "--unlike" in (folder / "command.txt").read_text()
    run_command(folder, monkeypatch)
    assert (folder / "out/images/000000.png").read_bytes() == (folder / "image.png").read_bytes()


@pytest.mark.parametrize("by_hand", [False, True])
def test_the_command_makes_a_counterfactual_of_an_opened_image_bit_for_bit(
    app: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_hand: bool
) -> None:
    client = visit(app)
    client.post("/api/upload?what=image", content=encode_png(made.picture().pixels))
    change = (
        {"op": "transform", "index": 1, "matrix": [1.3, 0, 0, 1.2, -0.15, -0.1]}
        if by_hand
        else {"op": "anomalies", "anomalies": [["microcephaly", -4]]}
    )
    assert client.post("/api/edit", json=change).status_code == 200
    job = made_image(client, "counterfactual")
    assert job["state"] == "done", job
    folder = unpacked(client, job["result"], tmp_path)
    run_command(folder, monkeypatch)
    assert (folder / "out/abnormal.png").read_bytes() == (folder / "image.png").read_bytes()
    assert (folder / "out/normal.png").read_bytes() == (folder / "before.png").read_bytes()


def test_an_exported_layout_opened_again_is_the_same_layout(app: Guard) -> None:
    client = opened(app, head(width=9.0))
    result = made_image(client)["result"]
    layout = layout_of(client, result)
    assert layout.to_json() == head(width=9.0).to_json()
    again = opened(app, layout)
    assert desk(again)["objects"] == desk(client)["objects"]
    image = client.get(f"/api/results/{result}/image.png").content
    other = visit(app)
    answer = other.post("/api/upload?what=image&plane=transventricular", content=image)
    if answer.status_code == 200:  # this little model may see nothing on its own image; then it must say so
        assert other.get("/api/desk/image").content == image
    else:
        assert "no structure of plane" in answer.json()["error"]


def test_dicom_says_whether_a_person_may_be_seen(app: Guard) -> None:
    client = visit(app)
    client.post("/api/upload?what=image", content=encode_png(made.picture().pixels))
    client.post("/api/edit", json={"op": "anomalies", "anomalies": [["microcephaly", -4]]})
    edited = made_image(client, "counterfactual")["result"]
    whole = made_image(client, "generate")["result"]
    said = {}
    for result in (edited, whole):
        with zipfile.ZipFile(io.BytesIO(client.get(f"/api/results/{result}/dicom.zip").content)) as packed:
            image = pydicom.dcmread(io.BytesIO(packed.read("image.dcm")))
            segments = hd.seg.segread(io.BytesIO(packed.read("image-seg.dcm")))
        assert image.SyntheticData == "YES"
        assert image.PatientID == ""
        assert segments.number_of_segments >= 1
        said[result] = image.ImageComments
    assert "may show a person" in said[edited]
    assert "shows no person" in said[whole]
