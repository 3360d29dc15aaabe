"""generate, edit and export-model on the command line: what comes out, one line where it cannot be."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fetalflex.errors import FetalFlexError
from flows.cli import app
from tests.fetalflex import tiny
from tests.fetalflex.synthesis import made

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    made.pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.fromarray(made.picture().pixels).save(tmp_path / "image.png")
    (tmp_path / "layout.json").write_text(tiny.layout().to_json())
    return tmp_path / "image.png"


def call(*arguments: object) -> dict[str, object]:
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    said: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return said


def test_generate_writes_images_and_says_where(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = call("generate", "--plane", "transventricular", "--count", 2, "--model", model, "--out", out, "--seed", 3)
    assert said == {"images": 2, "kept": 0, "plane": "transventricular", "manifest": str(out / "manifest.parquet")}
    assert len(list((out / "images").iterdir())) == 2
    again = call("generate", "--plane", "transventricular", "--count", 2, "--model", model, "--out", out, "--seed", 3)
    assert again["kept"] == 2


def test_generate_with_everything_that_can_be_asked(model: Path, image: Path) -> None:
    out, layout = image.parent / "out", image.parent / "layout.json"
    call(
        "generate", "--count", 1, "--layout", layout, "--anomaly", "microcephaly", "--severity", -4, "--anomaly",
        "absent-csp", "--severity", 1, "--reference", image, "--center", "far", "--age", 15, "--boxes-only",
        "--format", "dicom", "--model", model, "--out", out,
    )  # fmt: skip
    assert sorted(p.name for p in (out / "dicom").iterdir()) == ["000000-boxes.dcm", "000000.dcm"]
    assert (out / "regions" / "000000.png").is_file()


def test_edit_reads_plane_and_layout_from_the_image(model: Path, image: Path) -> None:
    out = image.parent / "out"
    said = call("edit", image, "--anomaly", "microcephaly", "--severity", -4, "--model", model, "--out", out)
    assert (said["plane"], said["plane_given"], said["layout_given"]) == ("transventricular", False, False)
    names = {
        "normal.png",
        "abnormal.png",
        "region.png",
        "layout_normal.json",
        "layout_abnormal.json",
        "edit.json",
        "model",
    }
    assert {p.name for p in out.iterdir()} == names
    normal, abnormal, region = (np.asarray(Image.open(out / f"{n}.png")) for n in ("normal", "abnormal", "region"))
    assert np.array_equal(normal[region == 0], abnormal[region == 0])


BAD: list[tuple[list[str], int, str]] = [
    (["generate", "--model", "MODEL", "--out", "OUT"], 2, "--plane"),
    (["generate", "--model", "MODEL", "--out", "OUT", "--plane", "brian"], 1, "plane 'brian' is unknown"),
    (["generate", "--model", "MODEL", "--out", "OUT", "--plane", "femur"], 1, "no layout statistics"),
    (["generate", "--model", "MODEL", "--out", "OUT", "--layout", "missing.json"], 1, "missing.json"),
    (["generate", "--model", "MODEL", "--out", "OUT", "--layout", "outside.json"], 1, "leaves the frame"),
    (["generate", "--model", "MODEL", "--out", "OUT", "--layout", "foreign.json"], 1, "no structure of plane"),
    (["generate", "--model", "MODEL", "--out", "OUT", "--layout", "layout.json", "--plane", "femur"], 1, "of plane"),
    (["generate", "--model", "MODEL", "--out", "OUT", "--layout", "layout.json", "--anomaly", "cleft-lip"], 2, "one"),
    (["generate", "--model", "MODEL", "--out", "OUT", "--layout", "layout.json", "--format", "gif"], 2, "dicom"),
    (["generate", "--model", "MODEL", "--out", "OUT", "--layout", "layout.json", "--center", "mars"], 2, "far, near"),
    (["generate", "--model", "missing", "--out", "OUT", "--layout", "layout.json"], 1, "no model here"),
    (["generate", "--model", "pickled", "--out", "OUT", "--layout", "layout.json"], 1, "pickle"),
    (["generate", "--model", "other", "--out", "OUT", "--layout", "layout.json"], 1, "is a DDPMPipeline"),
    (["generate", "--out", "OUT", "--layout", "layout.json"], 2, "--model"),
    (["generate", "--model", "MODEL", "--out", "OUT", "--layout", "layout.json", "--reference", "other"], 1, "PNG"),
    (["generate", "--model", "MODEL", "--out", "OUT", "--reference", "femur.png", "--layout", "layout.json"], 1,
     "another plane"),
    (["edit", "image.png", "--model", "MODEL", "--out", "OUT"], 2, "--anomaly"),
    (["edit", "image.png", "--model", "MODEL", "--out", "OUT", "--anomaly", "microcephaly", "--severity", "3"], 1,
     "expected -7 to -3"),
    (["edit", "image.png", "--model", "MODEL", "--out", "OUT", "--anomaly", "bowed-femur", "--severity", "30"], 1,
     "cannot be shown"),
    (["edit", "femur.png", "--plane", "transventricular", "--model", "MODEL", "--out", "OUT", "--anomaly",
      "microcephaly", "--severity", "-4"], 1, "another plane"),
    (["edit", "nothing.png", "--model", "MODEL", "--out", "OUT", "--anomaly", "microcephaly", "--severity", "-4"], 1,
     "nothing.png"),
    (["export-model", "OUT"], 1, "no workspace"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "code", "said"), BAD, ids=lambda v: " ".join(v) if isinstance(v, list) else str(v))
def test_what_cannot_be_is_one_error_and_nothing_is_written(
    model: Path, image: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], code: int, said: str
) -> None:
    folder = image.parent
    Image.fromarray(made.picture(0).pixels).save(folder / "femur.png")
    whole = json.loads(tiny.layout(boxed=True).to_json())
    outside, foreign = (json.loads(json.dumps(whole)) for _ in range(2))
    outside["objects"][0]["box"][2] = 900.0
    foreign["objects"][0]["structure"] = "stomach"
    (folder / "outside.json").write_text(json.dumps(outside))
    (folder / "foreign.json").write_text(json.dumps(foreign))
    for name, kind in (("pickled", "FetalFlexPipeline"), ("other", "DDPMPipeline")):
        (folder / name).mkdir()
        (folder / name / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    (folder / "pickled" / "weights.bin").write_bytes(b"")
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    words = [str(model) if w == "MODEL" else w for w in command]
    with pytest.raises(FetalFlexError) as raised:
        CliRunner().invoke(app, words, catch_exceptions=False, standalone_mode=False)
    assert raised.value.exit_code == code
    assert said in str(raised.value)
    assert sorted(folder.rglob("*")) == before


def test_an_error_is_one_line_without_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flows.cli", "generate", "--plane", "femur", "--out", "out", "--model", "nowhere"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "no model here" in line
    assert not list(tmp_path.iterdir())
