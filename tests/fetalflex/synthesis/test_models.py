from pathlib import Path

import pytest
import yaml

from fetalflex.errors import ModelError, UsageError
from fetalflex.synthesis.card import Facts, Figure, Origin, model_card
from fetalflex.synthesis.generate import Job, generate
from fetalflex.synthesis.models import export_model, open_model
from fetalflex.synthesis.requests import Ask
from tests.fetalflex import tiny
from tests.fetalflex.synthesis import made

ORIGINS = (Origin("A hospital", "CC BY 4.0", 20),)


def _export(folder: Path) -> Facts:
    cases = tiny.cases(20)
    return export_model(
        folder, made.model(), [cases.layout(i) for i in range(20)], ORIGINS, (Figure("kid", 0.05, 0.04, 0.06, 64),)
    )


def test_exported_folder_is_the_pipeline_with_statistics_and_card(tmp_path: Path) -> None:
    facts = _export(tmp_path / "model")
    loaded = open_model(tmp_path / "model")
    assert loaded.sha256() == facts.sha256 == made.pipeline().sha256()
    assert loaded.shapes["transventricular"]["n"] == 20
    card = (tmp_path / "model" / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["library_name"] == "diffusers"
    for said in (facts.sha256, "A hospital", "CC BY 4.0", "0.040 to 0.060", "Not\nfor diagnosis", "`near`"):
        assert said in card
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]


def test_exported_twice_is_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _export(tmp_path / name)
    for path in (tmp_path / "one").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes(), path.name


def test_no_outline_of_a_case_is_in_the_folder(tmp_path: Path) -> None:
    _export(tmp_path / "model")
    index = (tmp_path / "model" / "model_index.json").read_text()
    assert "mask" not in index
    assert "case" not in index


def test_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        _export(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_models_of_a_workspace_are_the_same_model(tmp_path: Path) -> None:
    tiny.generator().save(tmp_path / "generator")
    tiny.segmenter().save(tmp_path / "guide")
    tiny.aligner().save(tmp_path / "aligner")
    found = open_model(tmp_path, tiny.SAMPLE)
    assert found.sha256() == made.pipeline().sha256()
    assert found.plane_reader is None
    made.reader().save_head(tmp_path / "aligner")
    assert open_model(tmp_path, tiny.SAMPLE).plane_reader is not None


def test_a_generator_on_a_pretrained_base_generates_from_its_workspace_alone(tmp_path: Path) -> None:
    from fetalflex.model.generator import Generator
    from tests.fetalflex.model.test_stable_diffusion import steered, write_base

    known = tiny.generator()
    base = steered(write_base(tmp_path / "base"))
    Generator(base.eval(), known.vocabulary, known.size, known.digest).save(tmp_path / "models" / "generator")
    tiny.segmenter().save(tmp_path / "models" / "guide")
    found = open_model(tmp_path / "models", tiny.SAMPLE.model_copy(update={"darkening": 0.0}))
    assert found.sha256() != made.model().sha256()
    list(generate(found, Job(Ask("transventricular", layout=tiny.layout()), 1, 0, "png", tmp_path / "out"), None))
    assert (tmp_path / "out" / "images" / "000000.png").is_file()
    with pytest.raises(ModelError, match="not ours to copy"):
        export_model(tmp_path / "exported", found, [])
    assert not (tmp_path / "exported").exists()


def test_folder_without_a_model_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="export-model"):
        open_model(tmp_path)


def test_card_without_facts_claims_nothing() -> None:
    card = model_card(Facts("0" * 64, 64, 10**6, {}, ()))
    assert "Not recorded." in card
    assert "None were measured" in card
    assert "not known" in card
