"""Quality of the synthetic images: fidelity, control by the judge, nearest training images."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fetalflex import rng, tables
from fetalflex.anatomy.layout import Layout, rasterize
from fetalflex.anatomy.ontology import plane_index, structure_index
from fetalflex.artifacts import decode_png, tree_sha256, write_json
from fetalflex.dataset import EXPERT, EXPERT_BOX, Cases, marked_share
from fetalflex.errors import TooFewCasesError
from fetalflex.masks.segmenter import Segmenter
from fetalflex.quality.anomalies import AnomalyControl, summarise_anomalies
from fetalflex.quality.control import control_dice, image_means, summarise
from fetalflex.quality.features import CachedEncoder, Encoder, InceptionEncoder
from fetalflex.quality.fidelity import Sample, measure, whole_patients
from fetalflex.quality.privacy import Gallery, held_out_limits, nearest_training
from fetalflex.quality.summary import quality_report
from tasks.cases import patient_names, read_cases, read_synthetic
from tasks.chunks import ChunkWork
from tasks.readings import asked_anomalies, real_readings, synthetic_readings
from tasks.stage import StageRun
from tasks.tracking import Tracker

if TYPE_CHECKING:
    from fetalflex.model.prealign import Aligner

_CHUNK = 32
_MOST_MARKED = 0.05  # of an image's area
Images = npt.NDArray[np.uint8]


class ScoreWork(ChunkWork):
    """Real and synthetic images side by side, and their features chunk by chunk."""

    def __init__(self, run: StageRun) -> None:
        """Read everything; real images are limited to `score.max_real` per group, whole patients each."""
        super().__init__(run)
        params = run.params
        self.synthetic = read_synthetic(run.root)
        self.images = _pictures(self.synthetic["image"].to_list())
        # Fidelity and privacy compare with real images of the planes that were asked for.
        cases = read_cases(run.root, params)
        planes = [plane_index(name) for name in self.synthetic["plane"].unique()]
        cases = cases.take(np.isin(cases.planes, planes))
        # Filled marks are no ultrasound: an image with large ones is no reference. A copy of it is still a copy, so the
        # training images stay whole.
        clean = marked_share(cases) <= _MOST_MARKED
        self.train = self._limited(cases.of_group("train"))
        self.test = self._limited(cases.take(clean).of_group("test"))
        if len(self.test) < 2:
            raise TooFewCasesError(
                f"score: {len(self.test)} test images of the planes asked for; expected at least 2: add cases or raise "
                "data.test_fraction"
            )
        self.parts: dict[str, Images] = {}
        for name, images in (("train", self.train.images), ("test", self.test.images), ("synthetic", self.images)):
            for start in range(0, len(images), _CHUNK):
                self.parts[f"{name}-{start // _CHUNK:04d}"] = images[start : start + _CHUNK]
        self.encoder: Encoder = CachedEncoder(_encoder(run), run.root / ".work" / "cache" / "features")

    def _limited(self, cases: Cases) -> Cases:
        most, seed = self.run.params.score.max_real, self.run.params.data.seed
        if len(cases) <= most:
            return cases
        chosen = whole_patients(patient_names(cases), most, rng.generator(seed, "score", str(cases.groups[0])))
        return cases.take(np.sort(chosen))

    def features(self, name: str, folder: Path) -> None:
        """Write the features of one part."""
        np.save(folder / "features.npy", self.encoder.features(self.parts[name]), allow_pickle=False)

    def finish(self, chunks: dict[str, Path], tracker: Tracker) -> None:
        """Turn features into scores, write and publish the two reports."""
        found = {group: _joined(chunks, group) for group in ("train", "test", "synthetic")}
        params = self.run.params
        options = {"bootstrap": params.score.bootstrap, "seed": params.data.seed}
        normal = (self.synthetic["kind"] == "normal").to_numpy()
        fidelity = measure(
            Sample(found["test"], patient_names(self.test)),
            Sample(found["synthetic"][normal], self.synthetic["source_case"].to_numpy()[normal].astype(np.str_)),
            Sample(found["train"], patient_names(self.train)).take(marked_share(self.train) <= _MOST_MARKED),
            **options,
        )
        dice, real_dice, anomalies, measured = self._control()
        sources = self.synthetic["source_case"].to_numpy().astype(np.str_)
        control = summarise((dice, sources), (real_dice, patient_names(self.test)), **options)
        training = Gallery(self.train.images, found["train"], self.train.ids)
        limits = held_out_limits(Gallery(self.test.images, found["test"], self.test.ids), training)
        ids = self.synthetic["image_id"].to_numpy().astype(np.str_)
        nearest = nearest_training(Gallery(self.images, found["synthetic"], ids), training, limits)
        report = quality_report(self.encoder.name, fidelity, control, nearest, limits, anomalies)
        tracker.metrics(
            {f.name: f.value for f in fidelity}
            | {f"dice/{c.structure}": c.value for c in control}
            | {f"found/{a.anomaly}": a.found.value for a in anomalies if a.known}
        )
        rows = self.synthetic.select("image_id", "kind", "plane", "center").with_columns(
            *measured,
            dice=pl.Series(image_means(dice), nan_to_null=True),
            nearest_case=pl.Series([n.case_id for n in nearest]),
            nearest_distance=pl.Series([n.distance for n in nearest]),
            nearest_correlation=pl.Series([n.correlation for n in nearest]),
        )
        tables.write_shard(self.run.work / "scores.parquet", rows, tables.Scores)
        write_json(self.run.work / "quality.json", report)
        names = ("quality.json", "scores.parquet")
        self.run.publish({f"reports/{name}": self.run.work / name for name in names})

    def _control(self) -> tuple[Any, Any, tuple[AnomalyControl, ...], pl.DataFrame]:
        """Return the judge's Dice for the asked layouts, and for the experts' masks of real test images; anomalies."""
        judge = Segmenter.load(self.run.root / "models" / "judge")
        size = self.run.params.data.image_size
        asked = [rasterize(Layout.from_json(text), size) for text in self.synthetic["layout"]]
        maps, kinds = np.stack([a.maps for a in asked]), np.stack([a.kinds for a in asked])
        known = np.isin(np.arange(kinds.shape[1]), [structure_index(name) for name in judge.trained])
        chances, real = judge.predict(self.images), judge.predict(self.test.images)
        dice = control_dice(lambda _: chances, self.images, maps, kinds * known)
        expert = np.select([self.test.sources == EXPERT, self.test.sources == EXPERT_BOX], [2, 1], 0) * known
        real_dice = control_dice(lambda _: real, self.test.images, self.test.masks.astype(np.float32), expert)
        readings, measured = synthetic_readings(self.synthetic, chances > 0.5, judge.trained)
        truth = real_readings(self.test, real > 0.5, asked_anomalies(self.synthetic), judge.trained)
        params = self.run.params
        options = {"bootstrap": params.score.bootstrap, "seed": params.data.seed}
        return dice, real_dice, summarise_anomalies(readings, truth, judge.trained, **options), measured


@dataclass(frozen=True, eq=False)
class _AlignerEncoder:
    """The project's own image encoder; its name holds the weights' hash, under which features are cached."""

    name: str
    aligner: "Aligner"

    def features(self, images: Images) -> npt.NDArray[np.float32]:
        return self.aligner.image_features(images)


def _encoder(run: StageRun) -> Encoder:
    if run.params.score.encoder == "inception":
        return InceptionEncoder(batch=_CHUNK)
    from fetalflex.model.prealign import Aligner  # brings in diffusers, which the other encoder does not need

    aligner = Aligner.load(run.root / "models" / "aligner")
    return _AlignerEncoder(f"aligner-{tree_sha256([run.root / 'models' / 'aligner'])[:12]}", aligner)


def _pictures(column: list[dict[str, Any]]) -> Images:
    return np.stack([decode_png(value["bytes"]) for value in column])


def _joined(chunks: dict[str, Path], group: str) -> npt.NDArray[np.float32]:
    names = sorted(name for name in chunks if name.startswith(f"{group}-"))
    return np.concatenate([np.load(chunks[name] / "features.npy", allow_pickle=False) for name in names])
