"""The stage `score` from tables and models to its reports, on a workspace of drawn heads."""

import json
import threading
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from fetalflex import tables
from fetalflex.anatomy.layout import Layout
from fetalflex.anatomy.ontology import structure_index
from fetalflex.artifacts import picture, read_json
from fetalflex.errors import ModelError
from fetalflex.params import Gate, Params, Score
from fetalflex.quality.gate_metrics import is_release_metric
from fetalflex.quality.plots import from_csv
from tasks.cases import read_cases, read_synthetic
from tasks.gate import judge_release
from tasks.quality_page import write_quality_page
from tasks.score import ScoreWork
from tasks.stage import StageRun
from tests.fetalflex import tiny
from tests.fetalflex.quality.fidelity.backbone import write_backbone

GROUPS = ("train", "test", "judge", "train")
COPIED = 3  # the last so many synthetic images are training images


@dataclass
class Tracked:
    """What a tracker was told."""

    told: dict[str, float] = field(default_factory=dict)

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        self.told |= values


def frames(cases, i):
    return {
        "case_id": f"case-{i:016d}", "center": str(cases.centers[i]), "patient": f"patient-{i // 2:016d}",
        "image": picture(cases.images[i], f"case{i}"), "plane": "transventricular", "age_weeks": None,
        "spacing_mm": 2.0, "height": tiny.SIZE, "width": tiny.SIZE, "device": "curved", "pixels": f"{i:064d}",
        "phash": f"{i:016d}", "level": 90.0, "marks": "[]",
    }  # fmt: skip


def masks(cases, i):
    for name in ("head", "csp"):
        mask = cases.masks[i, structure_index(name)]
        yield {
            "case_id": f"case-{i:016d}", "center": str(cases.centers[i]), "structure": name, "source": "expert",
            "mask": picture((mask * 255).astype(np.uint8), name), "x0": 0.0, "y0": 0.0, "x1": 9.0, "y1": 9.0,
            "confidence": 1.0,
        }  # fmt: skip


def synthetic(cases, i, image):
    layout = cases.layout(i).to_json()
    return {
        "image_id": f"image-{i:016d}", "image": picture(image, "s"), "coarse": picture(image, "c"), "kind": "normal",
        "pair_id": None, "region": None, "plane": "transventricular", "center": str(cases.centers[i]),
        "age_weeks": None, "age_derived": False, "anomaly": None, "severity": None, "severity_unit": None,
        "second_anomaly": None, "second_severity": None, "second_severity_unit": None, "layout_source": "varied",
        "layout_normal": None, "layout": layout, "layout_adapted": layout, "source_case": f"case-{i:016d}",
        "seed": i, "evaluations": 4, "agreement": 0.9,
    }  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("score")
    cases = tiny.cases(48)
    made = np.roll(cases.images[:16], 1, axis=2)
    made = (made * np.random.default_rng(1).uniform(0.6, 1.0, made.shape)).astype(np.uint8)
    made[-COPIED:] = cases.images[[0, 6, 8]]
    for center in ("near", "far"):
        rows = [frames(cases, i) for i in range(48) if cases.centers[i] == center]
        tables.write_shard(root / "data/frames" / center / "frames-00.parquet", rows, tables.Frames)
    tables.write_shard(
        root / "data/masks/masks-00.parquet", [m for i in range(48) for m in masks(cases, i)], tables.Masks
    )
    splits = [
        {"case_id": f"case-{i:016d}", "center": str(cases.centers[i]), "patient": f"patient-{i // 2:016d}",
         "cluster": f"patient-{i // 2:016d}", "tied_by": None, "group": GROUPS[i // 2 % 4], "moved_from": None}
        for i in range(48)
    ]  # fmt: skip
    tables.write_shard(root / "data/masks/splits.parquet", splits, tables.Splits)
    rows = [synthetic(cases, i, made[i]) for i in range(16)]
    bare = replace(Layout.from_json(rows[0]["layout"]), objects=()).to_json()
    rows[0] |= {"layout": bare, "layout_adapted": bare, "layout_source": "none", "agreement": None}
    tables.write_shard(root / "data/synthetic/images-00.parquet", rows, tables.Synthetic)
    tiny.segmenter("judge").save(root / "models/judge")
    tiny.aligner().save(root / "models/aligner")
    write_backbone(root / "vgg16")
    work = root / ".work/score/key"
    work.mkdir(parents=True)
    params = Params(
        preset="test", data={"image_size": tiny.SIZE}, ingest={"centers": {"near": "frames", "far": "frames"}},
        score=Score(encoders=("aligner", "texture"), lpips=f"folder:{root / 'vgg16'}", bootstrap=20, canaries=6),
    )  # fmt: skip
    outputs = ("reports/quality.json", "reports/scores.parquet", "reports/metrics.json", "reports/plots")
    return StageRun("score", root, work, params, "key", (), outputs)


@pytest.fixture(scope="module")
def scored(run):
    work, tracked = ScoreWork(run), Tracked()
    chunks = {}
    for name in work.parts:
        chunks[name] = run.work / name
        chunks[name].mkdir()
        work.features(name, chunks[name])
    with work.searching() as searched:
        work.finish(chunks, searched, tracked)
    return work, tracked, read_json(run.root / "reports/quality.json")


def test_every_kind_of_figure_is_in_the_report(scored):
    rows = {row["name"]: row for row in scored[2]["metrics"] if not {"plane", "center", "anomaly"} & set(row)}
    assert {
        "kid", "frechet", "frechet_corrected", "cmmd", "precision", "recall", "density", "coverage", "ms_ssim",
        "feature_diversity", "lpips_diversity", "kid.texture", "look.nakagami_shape", "dice", "dice.head",
        "boundary_mm.head", "size_error.hc", "asked_but_absent.csp", "implausible_fraction", "implausible.text",
        "near_copy_fraction",
        "canary_recall", "canary_recall.flip", "false_alarms.crop", "membership_auc",
    } <= set(rows)  # fmt: skip
    assert all(is_release_metric(name) for name in rows)


def test_an_image_of_which_nothing_was_asked_has_no_dice_and_all_others_have(scored, run):
    rows = tables.read_shards([run.root / "reports/scores.parquet"], tables.Scores).sort("image_id")
    assert (rows["asked"][0], rows["dice"][0]) == (0, None)
    assert (rows["asked"][1:] > 0).all()
    assert rows["dice"][1:].is_not_null().all()


def test_planted_copies_are_found_among_the_synthetic_images(scored, run):
    privacy = scored[2]["privacy"]
    rows = tables.read_shards([run.root / "reports/scores.parquet"], tables.Scores)
    copies = rows.filter("near_copy")["image_id"].to_list()
    assert {f"image-{i:016d}" for i in range(16 - COPIED, 16)} <= set(copies)
    assert privacy["near_copies"] == len(copies)
    assert privacy["canaries"][0]["n"] == 6
    assert privacy["canaries"][0]["n_held_out"] == 24


def test_the_flat_file_and_the_tracker_hold_the_same_numbers(scored, run):
    flat = json.loads((run.root / "reports/metrics.json").read_text())
    assert scored[1].told["kid"] == flat["all"]["kid"]
    assert scored[1].told["lpips_diversity"] == flat["all"]["lpips_diversity"] > 0
    assert "center/near/kid" in scored[1].told or "kid" not in flat.get("center", {}).get("near", {})


def test_the_tables_for_plots_hold_shares_of_all_images(scored, run):
    rows = from_csv((run.root / "reports/plots/look_brightness.csv").read_text())
    assert [round(sum(row[side] for row in rows), 4) for side in ("held_out", "synthetic")] == [1.0, 1.0]
    assert {row["structure"] for row in from_csv((run.root / "reports/plots/dice.csv").read_text())} >= {"overall"}


def test_the_page_shows_the_images_at_both_ends_of_every_score(scored, run):
    for center in ("near", "far"):
        (run.root / "centers").mkdir(exist_ok=True)
        (run.root / "centers" / f"{center}.yaml").write_text(
            f"{{title: {center}, licence: CC0, planes: {{head: transventricular}}}}"
        )
    reports = {"quality": scored[2], "gate": None, "downstream": None}
    written = write_quality_page(
        run.root, run.params, read_cases(run.root, run.params), read_synthetic(run.root), reports
    )
    html = written.read_text()
    for part in (
        "lpips_diversity",
        "Control",
        "Realism",
        "Likeness to a training image",
        "near-copy",
        "Membership",
        "No verdict",
    ):
        assert part in html
    assert html.count("<h4>Best</h4>") == 4
    assert "real test images" in html  # these centers are no phantoms
    assert write_quality_page(run.root, run.params, None, None, reports) is None
    assert not written.exists()


def test_a_second_scoring_makes_no_forward_pass_and_the_same_reports(scored, run):
    first, opened = (run.root / "reports/quality.json").read_bytes(), []

    class Watched(ScoreWork):
        def encoder(self, name):
            opened.append(threading.current_thread())
            return super().encoder(name)

    again = Watched(run)
    chunks = {name: run.work / name for name in again.parts}
    for name, folder in chunks.items():
        again.features(name, folder)
    with again.searching() as searched:
        again.finish(chunks, searched, Tracked())
    assert (run.root / "reports/quality.json").read_bytes() == first
    assert [again.encoder(name).forwards for name in ("aligner", "texture")] == [0, 0]
    # MONAI, torchmetrics and diffusers break one another where two threads import them at once.
    assert set(opened) == {threading.main_thread()}
    assert again.lpips.forwards == 0
    assert scored[0].lpips.forwards > 0


def test_weights_of_lpips_that_are_missing_stop_scoring_before_it_begins(run):
    lost = run.params.model_copy(update={"score": run.params.score.model_copy(update={"lpips": "folder:nowhere"})})
    with pytest.raises(ModelError, match=r"score\.lpips 'folder:nowhere': found no such folder"):
        ScoreWork(replace(run, params=lost))


def test_the_gate_reads_what_was_scored(scored, run):
    (run.root / "reports/downstream.json").write_text('{"results": []}')
    gate = {
        "release": [{"metric": "near_copy_fraction", "at_most": 0.02, "reason": "no copies"}],
        "image": [{"metric": "near_copy", "at_most": 0, "reason": "no copies"}],
    }
    params = run.params.model_copy(
        update={
            "gate": Params(preset="x", ingest=run.params.ingest, gate=Gate.model_validate_json(json.dumps(gate))).gate
        }
    )
    judged = StageRun("gate", run.root, run.work, params, "key", (), ("reports/gate.json",))
    judge_release(judged)
    verdict = read_json(run.root / "reports/gate.json")
    assert not verdict["passed"]
    assert {f"image-{i:016d}" for i in range(13, 16)} <= {r["image_id"] for r in verdict["images"]["rejected"]}
