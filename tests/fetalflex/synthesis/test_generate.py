from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from fetalflex import tables
from fetalflex.anatomy.layout import Layout
from fetalflex.artifacts import decode_png
from fetalflex.diffusion.two_stage import SampleResult
from fetalflex.errors import AnomalyError, LayoutError, UsageError
from fetalflex.synthesis.generate import Job, Progress, generate
from fetalflex.synthesis.models import Model
from fetalflex.synthesis.requests import Ask, drawn_from_shapes, drawn_from_training, plan_images
from tests.fetalflex import tiny
from tests.fetalflex.synthesis import made

ASK = Ask("transventricular")


def run(job: Job, model: Model | None = None) -> list[Progress]:
    return list(generate(model or made.model(), job, drawn_from_shapes(made.model().shapes)))


def manifest(folder: Path) -> pl.DataFrame:
    return tables.read_shards([folder / "manifest.parquet"], tables.Generated)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_images_layouts_and_manifest_belong_together(tmp_path: Path) -> None:
    steps = run(Job(ASK, 5, 7, "png", tmp_path / "out"))
    assert (steps[-1].done, steps[-1].total) == (5, 5)
    rows = list(manifest(tmp_path / "out").iter_rows(named=True))
    assert [r["image_id"] for r in rows] == [f"{i:06d}" for i in range(5)]
    for row in rows:
        assert np.asarray(Image.open(tmp_path / "out" / row["file"])).shape == (tiny.SIZE, tiny.SIZE)
        layout = Layout.from_json((tmp_path / "out" / row["layout_file"]).read_text())
        assert layout.to_json() == row["layout"]
        (again,) = made.pipeline()(
            [_named(row["image_id"], layout)], seed=row["seed"], output_type="np"
        ).images  # what the manifest says makes the image again
        assert np.array_equal(again, np.asarray(Image.open(tmp_path / "out" / row["file"])))
        assert row["model"] == made.pipeline().sha256()
        assert row["coarse_evaluations"] + row["fine_evaluations"] <= tiny.SAMPLE.budget


def _named(image_id: str, layout: Layout) -> object:
    from fetalflex.diffusion.two_stage import SampleRequest

    return SampleRequest(image_id, layout)


def test_parquet_holds_the_images_of_png(tmp_path: Path) -> None:
    run(Job(ASK, 3, 7, "png", tmp_path / "png"))
    run(Job(ASK, 3, 7, "parquet", tmp_path / "parquet"))
    table = tables.read_shards((tmp_path / "parquet").glob("images-*.parquet"), tables.GeneratedImages)
    for row in table.iter_rows(named=True):
        expected = np.asarray(Image.open(tmp_path / "png" / "images" / f"{row['image_id']}.png"))
        assert np.array_equal(decode_png(row["image"]["bytes"]), expected)
    assert list(manifest(tmp_path / "parquet")["file"].unique()) == ["images-000.parquet"]


class CutError(Exception):
    pass


class CutOff:
    """A model whose sampling dies after some images."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __getattr__(self, name: str) -> object:
        return getattr(made.model(), name)

    def stream(self, *arguments: object) -> Iterator[SampleResult]:
        for number, result in enumerate(made.model().stream(*arguments)):  # type: ignore[arg-type]
            if number == self.after:
                raise CutError
            yield result


@pytest.mark.parametrize("kind", ["png", "parquet", "dicom"])
def test_a_run_that_was_cut_off_goes_on_to_the_same_bytes(tmp_path: Path, kind: str) -> None:
    job = Job(ASK, 6, 7, kind, tmp_path / "out")  # type: ignore[arg-type]
    with pytest.raises(CutError):
        run(job, CutOff(3))  # type: ignore[arg-type]
    assert not (tmp_path / "out" / "manifest.parquet").exists()
    if kind == "png":
        with (tmp_path / "out" / ".generate.jsonl").open("a") as journal:
            journal.write('{"image_id": "0000')  # as a kill may leave it
    steps = run(job)
    assert steps[0].resumed == (0 if kind == "parquet" else 3)
    run(replace(job, target=tmp_path / "whole"))
    one, two = contents(tmp_path / "out"), contents(tmp_path / "whole")
    one.pop(".generate.jsonl")
    two.pop(".generate.jsonl")
    assert one == two


def test_finished_folder_is_left_and_may_grow(tmp_path: Path) -> None:
    run(Job(ASK, 2, 7, "png", tmp_path))
    before = contents(tmp_path / "images")
    assert run(Job(ASK, 2, 7, "png", tmp_path))[0].resumed == 2
    assert run(Job(ASK, 4, 7, "png", tmp_path))[0].resumed == 2
    after = contents(tmp_path / "images")
    assert {k: after[k] for k in before} == before
    assert len(manifest(tmp_path)) == 4


def test_other_settings_need_another_folder(tmp_path: Path) -> None:
    run(Job(ASK, 2, 7, "png", tmp_path))
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="another layouts, seed"):
        run(Job(ASK, 2, 8, "png", tmp_path))
    with pytest.raises(UsageError, match="another boxes_only"):
        run(Job(replace(ASK, boxes_only=True), 2, 7, "png", tmp_path))
    assert contents(tmp_path) == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        run(Job(ASK, 2, 7, "png", tmp_path / "other"))


def test_a_given_layout_is_asked_as_it_is_with_style_and_age(tmp_path: Path) -> None:
    ask = replace(ASK, layout=tiny.layout(), center="far", age_weeks=23.0)
    run(Job(ask, 2, 7, "png", tmp_path))
    rows = manifest(tmp_path)
    assert set(rows["layout"]) == {replace(tiny.layout(), center="far", age_weeks=23.0).to_json()}
    assert set(rows["layout_source"]) == {"given"}
    one, two = ((tmp_path / f).read_bytes() for f in rows["file"])
    assert one != two


def test_boxes_only_asks_for_no_outline() -> None:
    plan = plan_images(replace(ASK, boxes_only=True), 3, 1, 32, drawn_from_shapes(made.model().shapes))
    assert all(o.mask is None and o.shape is None for p in plan for o in p.request.layout.objects)


def test_anomaly_is_edited_into_each_layout() -> None:
    ask = replace(ASK, anomalies=(("microcephaly", -4.0),))
    for planned in plan_images(ask, 3, 1, 32, drawn_from_shapes(made.model().shapes)):
        head, normal = planned.request.layout.find("head"), planned.normal.find("head")
        assert head is not None
        assert normal is not None
        assert head.edited
        assert head.box[2] - head.box[0] < normal.box[2] - normal.box[0]


def test_absent_structure_is_avoided() -> None:
    ask = replace(ASK, layout=tiny.layout(), anomalies=(("absent-csp", 1.0),))
    (planned,) = plan_images(ask, 1, 1, 32, None)
    assert planned.request.layout.absent == {"csp"}
    assert planned.request.avoided is planned.normal


def test_reference_changes_only_where_the_layout_asks(tmp_path: Path) -> None:
    canvas = made.picture().canvas(tiny.SIZE)
    ask = replace(ASK, layout=tiny.layout(), reference=canvas)
    run(Job(ask, 2, 7, "png", tmp_path, "0" * 64))
    for row in manifest(tmp_path).iter_rows(named=True):
        image, region = (np.asarray(Image.open(tmp_path / row[k])) for k in ("file", "region_file"))
        assert np.array_equal(image[region == 0], canvas[region == 0])
        assert 0 < (region > 0).mean() < 0.9
        assert row["reference"] == "0" * 64


def test_training_layouts_are_varied_and_named() -> None:
    cases = tiny.cases()
    draw = drawn_from_training([(str(cases.ids[i]), cases.layout(i)) for i in range(8)], 0.06, None)
    plan = plan_images(ASK, 4, 1, 32, draw)
    assert all(p.source.startswith("varied case case") for p in plan)
    assert all(p.normal.center is None for p in plan)
    with pytest.raises(LayoutError, match="expected one of transventricular"):
        plan_images(Ask("femur"), 1, 1, 32, draw)


def test_cases_without_outlines_are_drawn_only_where_there_are_no_others() -> None:
    bare = [(f"bare{i}", Layout("transventricular", "image", 1.0, ())) for i in range(9)]
    draw = drawn_from_training([*bare, ("outlined", tiny.layout())], 0.06, None)
    assert {p.source for p in plan_images(ASK, 4, 1, 32, draw)} == {"varied case outlined"}
    alone = drawn_from_training(bare, 0.06, None)
    assert all(not p.normal.objects for p in plan_images(ASK, 2, 1, 32, alone))


BAD = [
    (Ask("brian"), LayoutError, "plane 'brian' is unknown"),
    (replace(ASK, layout=tiny.layout(), plane="abdomen"), LayoutError, "layout is of plane"),
    (replace(ASK, center="mars"), UsageError, "expected one of far, near"),
    (replace(ASK, age_weeks=3.0), UsageError, "4 to 45"),
    (replace(ASK, anomalies=(("cardiomegaly", 0.7),)), AnomalyError, "cannot be shown"),
    (replace(ASK, anomalies=(("ventriculomegaly", 140.0),)), AnomalyError, "expected 10"),
    (replace(ASK, anomalies=(("dragon", 1.0),)), AnomalyError, "unknown"),
    (replace(ASK, layout=tiny.layout(), anomalies=(("ventriculomegaly", 14.0),)), AnomalyError, "lateral-ventricle"),
    (Ask("femur"), LayoutError, "no layout statistics"),
]


@pytest.mark.parametrize(("ask", "kind", "said"), BAD)
def test_what_cannot_be_is_one_error_and_nothing_is_written(
    tmp_path: Path, ask: Ask, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        run(Job(ask, 2, 7, "png", tmp_path / "out"))
    assert not list(tmp_path.iterdir())
