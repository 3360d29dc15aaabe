"""Quality of the synthetic images: fidelity, control by the judge, plausibility, privacy."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fetalflex import rng, tables
from fetalflex.anatomy.ontology import PLANE_NAMES, plane_index
from fetalflex.artifacts import decode_png, write_json, writing_folder
from fetalflex.dataset import Cases, marked_share
from fetalflex.errors import TooFewCasesError
from fetalflex.quality.features.cache import CachedEncoder
from fetalflex.quality.features.encoder import Encoder
from fetalflex.quality.features.registry import BATCH, STANDARDISED, open_encoder
from fetalflex.quality.fidelity.looks import looks
from fetalflex.quality.fidelity.lpips import LpipsEncoder, check_lpips
from fetalflex.quality.fidelity.measure import Figure, Plan, by_anomaly, measure_all
from fetalflex.quality.fidelity.neighbours import realism
from fetalflex.quality.fidelity.sample import whole_patients
from fetalflex.quality.fidelity.sides import Side, standardised
from fetalflex.quality.plots import plot_tables, to_csv
from fetalflex.quality.privacy.nearest import Gallery, Nearest, Search
from fetalflex.quality.privacy.report import Privacy, assess
from fetalflex.quality.summary import Parts, flat_metrics, quality_report
from tasks.cases import patient_names, read_cases, read_synthetic
from tasks.chunks import ChunkWork
from tasks.control import judge_control
from tasks.plausibility import check_images
from tasks.process import fix_threads
from tasks.stage import StageRun
from tasks.tracking import Tracker

_MOST_MARKED = 0.05  # of an image's area
ALIGNER = "aligner"
Images = npt.NDArray[np.uint8]
Searched = tuple[tuple[Nearest, ...], Privacy]


@dataclass(frozen=True, eq=False)
class Groups:
    """The real images by group of patients, of the planes that were asked for; all of them, clean or not."""

    train: Cases
    judge: Cases
    test: Cases


class ScoreWork(ChunkWork):
    """Real and synthetic images side by side, and their features chunk by chunk."""

    def __init__(self, run: StageRun) -> None:
        """Read everything; for distances, real images are limited to `score.max_real` per group, by whole patients."""
        super().__init__(run)
        if run.params.score.lpips is not None:
            check_lpips(run.params.score.lpips)  # before hours of features
        self.synthetic = read_synthetic(run.root)
        self.images = _pictures(self.synthetic["image"].to_list())
        # Fidelity and privacy compare with real images of the planes that were asked for.
        cases = read_cases(run.root, run.params)
        planes = [plane_index(name) for name in self.synthetic["plane"].unique()]
        cases = cases.take(np.isin(cases.planes, planes))
        self.groups = Groups(*(cases.of_group(name) for name in ("train", "judge", "test")))
        # Filled marks are no ultrasound: an image with large ones is no reference. A copy of it is still a copy, so the
        # search goes through all training images.
        self.train = self._limited(_clean(self.groups.train))
        self.test = self._limited(_clean(self.groups.test))
        if len(self.test) < 2:
            raise TooFewCasesError(
                f"score: {len(self.test)} test images of the planes asked for; expected at least 2: add cases or raise "
                "data.test_fraction"
            )
        self.parts: dict[str, tuple[str, Images]] = {}
        for encoder in run.params.score.encoders:
            for name, images in (("train", self.train.images), ("test", self.test.images), ("made", self.images)):
                for start in range(0, len(images), BATCH):
                    part = f"{encoder.replace('/', '-')}-{name}-{start // BATCH:05d}"
                    self.parts[part] = (encoder, images[start : start + BATCH])
        self._open: dict[str, CachedEncoder] = {}

    def encoder(self, name: str) -> CachedEncoder:
        """Return an encoder by name, opened once."""
        if name not in self._open:
            self._open[name] = self._cached(open_encoder(name, self.run.root / "models" / "aligner"))
        return self._open[name]

    @cached_property
    def lpips(self) -> CachedEncoder | None:
        """Return what measures LPIPS of pairs; None where no backbone is named."""
        place = self.run.params.score.lpips
        return None if place is None else self._cached(LpipsEncoder(place))

    def _cached(self, encoder: Encoder) -> CachedEncoder:
        return CachedEncoder(encoder, self.run.root / ".work" / "cache" / "features")

    def features(self, name: str, folder: Path) -> None:
        """Write the features of one part."""
        encoder, images = self.parts[name]
        np.save(folder / "features.npy", self.encoder(encoder).features(images), allow_pickle=False)

    @contextmanager
    def searching(self) -> Iterator[Future[Searched]]:
        """Search for copies beside all the rest, on a thread of its own: it takes as long as what follows the features.

        It needs the aligner's features alone, so it begins with the others, and no core waits for it at the end.
        """
        # Opened first: two threads that import big libraries side by side break one another.
        for name in (ALIGNER, *self.run.params.score.encoders):
            self.encoder(name)
        threads = self.run.params.compute.threads
        with ThreadPoolExecutor(1, initializer=fix_threads, initargs=(threads,)) as pool:
            yield pool.submit(self._privacy, self.encoder(ALIGNER))

    def finish(self, chunks: dict[str, Path], searched: Future[Searched], tracker: Tracker) -> None:
        """Turn features into scores, write and publish the reports."""
        judged = judge_control(self.run, self.synthetic, self.images, self.test)
        checked = check_images(self.run, self.synthetic, self.images, (_clean(self.groups.train), self.test))
        real, made, other = self._sides(chunks)
        fidelity = self._fidelity(real, made, other)
        nearest, privacy = searched.result()
        parts = Parts(
            self.run.params.score.encoders, fidelity, judged.control, judged.anomalies, privacy,
            (*judged.figures, *checked.figures),
        )  # fmt: skip
        report = quality_report(parts)
        self._track(report, tracker)
        work, first = self.run.work, self.run.params.score.encoders[0]
        features = real.features[first], made.features[first]
        columns = [*judged.columns, *checked.columns, pl.Series("realism", realism(*features), nan_to_null=True)]
        rows = self._rows(columns, nearest)
        tables.write_shard(work / "scores.parquet", rows, tables.Scores)
        write_json(work / "quality.json", report)
        write_json(work / "metrics.json", flat_metrics(report))
        dice = rows["dice"].fill_null(np.nan).to_numpy()
        with writing_folder(work / "plots") as folder:
            for name, table in plot_tables(report, (real.looks, made.looks), features, dice).items():
                (folder / f"{name}.csv").write_text(to_csv(table), encoding="utf-8")
        names = ("quality.json", "scores.parquet", "metrics.json", "plots")
        self.run.publish({f"reports/{name}": work / name for name in names})

    def _sides(self, chunks: dict[str, Path]) -> tuple[Side, Side, Side]:
        """Return the test images, the synthetic ones and the training images with their features and looks."""
        names = self.run.params.score.encoders
        found = {group: {e: _joined(chunks, e, group) for e in names} for group in ("train", "test", "made")}
        for name in STANDARDISED & set(names):
            rows = standardised(*(found[group][name] for group in ("test", "made", "train")))
            found["test"][name], found["made"][name], found["train"][name] = rows
        real, other = (_real_side(c, found[g]) for c, g in ((self.test, "test"), (self.train, "train")))
        made = Side(
            self.images, found["made"], looks(self.images), self.sources, self._text("plane"), self._text("center")
        )
        return real, made, other

    def _fidelity(self, real: Side, made: Side, other: Side) -> list[Figure]:
        params = self.run.params
        plan = Plan(params.score.encoders, params.score.bootstrap, params.data.seed, self.lpips)
        normal = (self.synthetic["kind"] == "normal").to_numpy()
        figures = list(measure_all(real, made.take(normal), other, plan))
        return figures + list(by_anomaly(real, made, self._text("anomaly"), other, plan))

    def _privacy(self, encoder: CachedEncoder) -> Searched:
        params = self.run.params
        search = Search(_gallery(self.groups.train), encoder)
        held_out = (_gallery(self.groups.test), _gallery(self.groups.judge))
        ids = [str(i) for i in self.synthetic["image_id"]]
        return assess(
            search, (self.images, ids), held_out,
            canaries=params.score.canaries, bootstrap=params.score.bootstrap, seed=params.data.seed,
        )  # fmt: skip

    def _limited(self, cases: Cases) -> Cases:
        most, seed = self.run.params.score.max_real, self.run.params.data.seed
        if len(cases) <= most:
            return cases
        chosen = whole_patients(patient_names(cases), most, rng.generator(seed, "score", str(cases.groups[0])))
        return cases.take(np.sort(chosen))

    @cached_property
    def sources(self) -> npt.NDArray[np.str_]:
        """The case that gave each synthetic image its layout."""
        return self._text("source_case")

    def _text(self, column: str) -> npt.NDArray[np.str_]:
        return self.synthetic[column].fill_null("").to_numpy().astype(np.str_)

    def _rows(self, columns: list[pl.Series], nearest: tuple[Nearest, ...]) -> pl.DataFrame:
        return self.synthetic.select("image_id", "kind", "plane", "center").with_columns(
            *columns,
            nearest_case=pl.Series([n.correlated_case for n in nearest]),
            nearest_distance=pl.Series([n.distance for n in nearest]),
            nearest_correlation=pl.Series([n.correlation for n in nearest]),
            near_copy=pl.Series([n.near_copy for n in nearest]),
        )

    def _track(self, report: dict[str, Any], tracker: Tracker) -> None:
        flat = flat_metrics(report)
        tracker.metrics({name.replace("=", "-"): value for name, value in flat.pop("all", {}).items()})
        for kind, places in flat.items():
            tracker.metrics({f"{kind}/{place}/{n}": v for place, values in places.items() for n, v in values.items()})


def _clean(cases: Cases) -> Cases:
    return cases.take(marked_share(cases) <= _MOST_MARKED)


def _real_side(cases: Cases, features: dict[str, Any]) -> Side:
    planes = np.array([PLANE_NAMES[int(p)] for p in cases.planes], np.str_)
    return Side(
        cases.images, features, looks(cases.images), patient_names(cases), planes, cases.centers.astype(np.str_)
    )


def _gallery(cases: Cases) -> Gallery:
    return Gallery(cases.images, cases.ids, patient_names(cases))


def _pictures(column: list[dict[str, Any]]) -> Images:
    return np.stack([decode_png(value["bytes"]) for value in column])


def _joined(chunks: dict[str, Path], encoder: str, group: str) -> npt.NDArray[np.float32]:
    start = f"{encoder.replace('/', '-')}-{group}-"
    names = sorted(name for name in chunks if name.startswith(start))
    return np.concatenate([np.load(chunks[name] / "features.npy", allow_pickle=False) for name in names])
