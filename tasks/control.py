"""Control: what the judge sees in the synthetic images and in real test images, against what was asked and what is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fetalflex.anatomy.layout import Layout, LayoutMaps, rasterize
from fetalflex.anatomy.ontology import structure_index
from fetalflex.dataset import EXPERT, EXPERT_BOX, Cases
from fetalflex.masks.segmenter import Segmenter
from fetalflex.quality.anomalies import AnomalyControl, summarise_anomalies
from fetalflex.quality.control.further import further_figures
from fetalflex.quality.control.judgement import Judgement
from fetalflex.quality.control.overlap import AS_BOX, AS_MASK, Control, control_dice, image_means, summarise
from fetalflex.quality.fidelity.measure import Figure
from tasks.cases import patient_names
from tasks.readings import asked_anomalies, real_readings, synthetic_readings
from tasks.stage import StageRun

Images = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Judged:
    """What the judge says: Dice by structure, anomalies, further figures, and the columns of the scores."""

    control: tuple[Control, ...]
    anomalies: tuple[AnomalyControl, ...]
    figures: tuple[Figure, ...]
    columns: list[pl.Series]


def judge_control(run: StageRun, synthetic: pl.DataFrame, images: Images, test: Cases) -> Judged:
    """Return the judge's Dice for the asked layouts, and for the experts' masks of real test images; anomalies."""
    judge = Segmenter.load(run.root / "models" / "judge")
    size = run.params.data.image_size
    options: dict[str, Any] = {"bootstrap": run.params.score.bootstrap, "seed": run.params.data.seed}
    asked = [rasterize(Layout.from_json(text), size) for text in synthetic["layout"]]
    maps, kinds = np.stack([a.maps for a in asked]), np.stack([a.kinds for a in asked])
    known = np.isin(np.arange(kinds.shape[1]), [structure_index(name) for name in judge.trained])
    chances, real = judge.predict(images), judge.predict(test.images)
    dice = control_dice(lambda _: chances, images, maps, kinds * known)
    expert = np.select([test.sources == EXPERT, test.sources == EXPERT_BOX], [2, 1], 0) * known
    real_dice = control_dice(lambda _: real, test.images, test.masks.astype(np.float32), expert)
    readings, measured = synthetic_readings(synthetic, chances > 0.5, judge.trained)
    truth = real_readings(test, real > 0.5, asked_anomalies(synthetic), judge.trained)
    sources = synthetic["source_case"].to_numpy().astype(np.str_)
    spacing = np.array([_spacing(text, size) for text in synthetic["layout"]])
    return Judged(
        summarise((dice, sources), (real_dice, patient_names(test)), **options),
        summarise_anomalies(readings, truth, judge.trained, **options),
        tuple(
            further_figures(
                _asked(asked, chances > 0.5, known, (spacing, sources)), _marked(test, real > 0.5, known), **options
            )
        ),
        [
            *measured,
            pl.Series("asked", (kinds > 0).sum(axis=1), dtype=pl.Int32),
            pl.Series("dice", image_means(dice), nan_to_null=True),
        ],
    )


def _asked(asked: list[LayoutMaps], seen: Array, known: Array, more: tuple[Array, Array]) -> Judgement:
    kinds = np.stack([a.kinds for a in asked]) * known
    maps, absent = np.stack([a.maps for a in asked]) > 0.5, np.stack([a.absent for a in asked])
    return Judgement(seen, maps, kinds == AS_MASK, kinds == AS_BOX, absent & known, *more)


def _marked(test: Cases, seen: Array, known: Array) -> Judgement:
    """Return the judge beside the experts, on real test images; nothing is known to be absent there."""
    shapes, boxes = ((test.sources == source) & known for source in (EXPERT, EXPERT_BOX))
    nothing = np.zeros(shapes.shape, bool)
    return Judgement(seen, test.masks, shapes, boxes, nothing, test.spacings.astype(np.float64), patient_names(test))


def _spacing(text: str, size: int) -> float:
    layout = Layout.from_json(text)
    return layout.extent / size if layout.unit == "mm" else float("nan")
