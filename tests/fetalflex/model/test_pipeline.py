import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file

from fetalflex.anatomy.ontology import plane_index
from fetalflex.diffusion.two_stage import SampleRequest
from fetalflex.errors import ModelError
from fetalflex.model.condition import condition_from_layouts
from fetalflex.model.pipeline import FetalFlexPipeline, model_sha256
from fetalflex.model.plane_reader import PlaneReader, fit_plane_reader
from fetalflex.model.sectors import Sectors
from tests.fetalflex import tiny

ROOT = Path(__file__).parents[3]
LAYOUTS = [tiny.layout(15), tiny.layout(17, boxed=True)]


def _reader() -> PlaneReader:
    cases = tiny.cases()
    cases.planes[::2] = plane_index("abdomen")
    reader = fit_plane_reader(tiny.aligner(), cases, cases)
    assert reader is not None
    return reader


def _pipeline(reader: PlaneReader | None = None) -> FetalFlexPipeline:
    made = FetalFlexPipeline.of(tiny.generator(), tiny.segmenter("guide", 4), reader, tiny.SAMPLE, {"femur": {"n": 9}})
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    _pipeline(_reader()).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_loaded_pipeline_makes_the_same_bytes(saved: Path) -> None:
    before, after = _pipeline(), FetalFlexPipeline.from_pretrained(saved)
    assert isinstance(after, DiffusionPipeline)
    for one, other in zip(before(LAYOUTS, seed=3).images, after(LAYOUTS, seed=3).images, strict=True):
        assert one.tobytes() == other.tobytes()
    assert after.sha256() == before.sha256()
    assert after.generator.sectors.outlines == before.generator.sectors.outlines
    assert model_sha256(replace(before.generator, sectors=Sectors()), before.guide.segmenter) != before.sha256()
    assert (after.sampling, after.config.shapes) == (before.sampling, {"femur": {"n": 9}})


@pytest.mark.parametrize("count", [1, 2])
def test_a_loaded_network_computes_the_same_bits(saved: Path, count: int) -> None:
    # Grey values hide most of such differences: weights left where the file puts them change the last bits alone.
    before, after = _pipeline(), FetalFlexPipeline.from_pretrained(saved)
    asked = condition_from_layouts(LAYOUTS[:count], before.generator.vocabulary, tiny.SIZE)
    x, t = torch.randn(2, 1, tiny.SIZE, tiny.SIZE, generator=torch.manual_seed(2))[:count], torch.full((count,), 0.3)
    with torch.no_grad():
        assert torch.equal(before.generator.denoiser(x, t, asked), after.generator.denoiser(x, t, asked))
        assert torch.equal(before.guide.segmenter(x), after.guide.segmenter(x))


def test_saving_again_writes_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    FetalFlexPipeline.from_pretrained(saved).save_pretrained(tmp_path / "again")
    names = sorted(p.relative_to(saved) for p in saved.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file())
    for name in names:
        assert (saved / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_weights_in_shards_are_the_same_model(tmp_path: Path) -> None:
    _pipeline().save_pretrained(tmp_path, max_shard_size="1MB")
    assert len(list((tmp_path / "unet").glob("*.safetensors"))) > 1
    assert FetalFlexPipeline.from_pretrained(tmp_path).sha256() == _pipeline().sha256()


def test_plane_reader_may_be_there_or_not(saved: Path, tmp_path: Path) -> None:
    image = tiny.cases().images[:2]
    read = FetalFlexPipeline.from_pretrained(saved).plane_reader
    assert np.array_equal(read.predict(image), _reader().predict(image))
    _pipeline().save_pretrained(tmp_path / "without")
    assert FetalFlexPipeline.from_pretrained(tmp_path / "without").plane_reader is None


def test_image_depends_on_seed_and_number_and_not_on_company() -> None:
    pipeline = _pipeline()
    both = pipeline(LAYOUTS, seed=3, output_type="np").images
    alone = pipeline(SampleRequest("000001", LAYOUTS[1]), seed=3, output_type="np").images
    assert np.array_equal(both[1], alone[0])
    assert not np.array_equal(both, pipeline(LAYOUTS, seed=4, output_type="np").images)


def test_layouts_may_be_json_and_results_say_what_it_took() -> None:
    pipeline = _pipeline()
    images, results = pipeline(LAYOUTS[0].to_json(), seed=3, return_dict=False)
    assert images[0].tobytes() == pipeline(LAYOUTS[0], seed=3).images[0].tobytes()
    assert results[0].evaluations > 0


def test_loading_draws_no_random_number(saved: Path) -> None:
    state = torch.random.get_rng_state()
    FetalFlexPipeline.from_pretrained(saved)
    assert torch.equal(torch.random.get_rng_state(), state)


def _edit_index(folder: Path, **changes: object) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"_class_name": "StableDiffusionPipeline"}, "is a StableDiffusionPipeline"),
        ({"unet": ["os", "system"]}, "unet is"),
        ({"sampling": {"coarse_steps": -1}}, "sampling.coarse_steps"),
        ({"sampling": {"magic": 1}}, "sampling.magic"),
        ({"unet": [None, None]}, "unet is"),
    ],
)
def test_index_of_another_configuration_is_refused(saved: Path, change: dict[str, object], said: str) -> None:
    _edit_index(saved, **change)
    with pytest.raises(ModelError, match=said):
        FetalFlexPipeline.from_pretrained(saved)


def test_pickled_weights_are_refused_and_never_written(saved: Path, tmp_path: Path) -> None:
    (saved / "guide" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="pickle"):
        FetalFlexPipeline.from_pretrained(saved)
    with pytest.raises(ModelError, match="pickle"):
        _pipeline().save_pretrained(tmp_path / "other", safe_serialization=False)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("how", ["less", "more", "shape", "damaged", "gone"])
def test_weights_of_another_configuration_are_refused(saved: Path, how: str) -> None:
    path = saved / "guide" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[0]
    if how == "less":
        del tensors[name]
    elif how == "more":
        tensors["other.weight"] = torch.zeros(2)
    elif how == "shape":
        tensors[name] = torch.zeros(3, 3)
    save_file(tensors, path)
    if how == "damaged":
        path.write_bytes(path.read_bytes()[:-40])
    elif how == "gone":
        path.unlink()
    with pytest.raises(ModelError, match=r"guide|cannot be loaded"):
        FetalFlexPipeline.from_pretrained(saved)


def test_models_of_a_workspace_are_a_pipeline_too(saved: Path, tmp_path: Path) -> None:
    tiny.generator().save(tmp_path / "generator")
    tiny.segmenter("guide", 4).save(tmp_path / "guide")
    found = FetalFlexPipeline.from_models(tmp_path, tiny.SAMPLE)
    assert found.sha256() == FetalFlexPipeline.from_pretrained(saved).sha256()


def test_missing_folder_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="export-model"):
        FetalFlexPipeline.from_pretrained(tmp_path / "nowhere")


def test_the_judge_never_enters_a_pipeline() -> None:
    with pytest.raises(ModelError, match="'guide' alone"):
        FetalFlexPipeline.of(tiny.generator(), tiny.segmenter("judge", 4))


def test_three_lines_suffice_without_tables_and_orchestration(saved: Path) -> None:
    blocked = ("polars", "pyarrow", "dataframely", "prefect", "dvc", "mlflow", "pydicom", "highdicom", "typer")
    layout = saved.parent / "layout.json"
    layout.write_text(LAYOUTS[0].to_json())
    code = (
        f"import sys\nfor name in {blocked}: sys.modules[name] = None\n"
        "import socket\ndef no(*a, **k): raise OSError('no network')\nsocket.socket.connect = no\n"
        "from fetalflex.model.pipeline import FetalFlexPipeline\n"
        f"pipeline = FetalFlexPipeline.from_pretrained({str(saved)!r})\n"
        f"image = pipeline(open({str(layout)!r}).read(), seed=3).images[0]\n"
        "import hashlib; print(hashlib.sha256(image.tobytes()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    import hashlib

    expected = hashlib.sha256(_pipeline()(LAYOUTS[0], seed=3).images[0].tobytes()).hexdigest()
    assert done.stdout.strip() == expected, done.stderr
