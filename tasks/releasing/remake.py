"""Images of a release made again from its table, its model and its seeds, in any company: bytes do not depend on it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fetalflex import rng
from fetalflex.anatomy.layout import Layout, changed_region, to_avoid
from fetalflex.artifacts import decode_png
from fetalflex.errors import ArtifactError
from fetalflex.imports import light_diffusers
from fetalflex.masks.segmenter import Segmenter
from fetalflex.params import Params
from fetalflex.release.compare import Remade, compare
from tasks.process import fix_threads
from tasks.sample import asked

with light_diffusers():
    from fetalflex.diffusion.two_stage import SampleRequest, SampleResult, sample_images
    from fetalflex.model.generator import Generator

Row = dict[str, Any]


def choose(names: list[str], count: int | None, seed: int) -> list[str]:
    """Return `count` of the names by hash (all where it is None): other seeds choose other images."""
    ordered = sorted(names, key=lambda name: (rng.derive_seed(seed, "verify", name), name))
    return ordered if count is None else ordered[:count]


class Remaker:
    """The model of a release, and its rows by image."""

    def __init__(self, tree: Path, params: Params, rows: dict[str, Row]) -> None:
        """Load the generator and the guide. Raises: ModelError."""
        fix_threads(params.compute.threads)
        self.generator = Generator.load(tree / "models" / "generator")
        self.guide = Segmenter.load(tree / "models" / "guide")
        self._params, self._rows = params, rows

    def again(self, chosen: list[str]) -> Iterator[list[Remade]]:
        """Yield images made again, batch by batch, compared with the released ones."""
        size = self._params.sample.batch_size
        for start in range(0, len(chosen), size):
            yield self._batch([self._rows[name] for name in chosen[start : start + size]])

    def _batch(self, rows: list[Row]) -> list[Remade]:
        halves = [r for r in rows if r["kind"] == "pair-abnormal"]
        # A pair's abnormal half is painted into its normal half, which is made again, too: nothing is taken as given.
        first = {r["image_id"]: r for r in rows if r["kind"] != "pair-abnormal"}
        first |= {r["pair_id"]: self._rows[r["pair_id"]] for r in halves}
        made = {result.image_id: result for result in self._sample([_single(r) for r in first.values()])}
        normal = {r["image_id"]: made[r["pair_id"]] for r in halves}
        made |= {x.image_id: x for x in self._sample([_abnormal_half(r, normal[r["image_id"]]) for r in halves])}
        return [compare(r["image_id"], decode_png(r["image"]["bytes"]), made[r["image_id"]].image) for r in rows]

    def _sample(self, requests: list[SampleRequest]) -> list[SampleResult]:
        if not requests:
            return []
        seed = rng.derive_seed(self._params.data.seed, "sample")
        return sample_images(self.generator, self.guide, requests, self._params.sample, seed)


def _layouts(row: Row) -> tuple[Layout, Layout]:
    """Return the layout before any anomaly and the one that was asked."""
    layout = Layout.from_json(row["layout"])
    return (Layout.from_json(row["layout_normal"]) if row["layout_normal"] else layout), layout


def _single(row: Row) -> SampleRequest:
    normal, layout = map(asked, _layouts(row))
    return SampleRequest(row["image_id"], layout, avoided=to_avoid(normal, layout))


def _abnormal_half(row: Row, normal_half: SampleResult) -> SampleRequest:
    if row["layout_normal"] is None:
        raise ArtifactError(f"image {row['image_id']}: half of a pair without its normal layout")
    normal, abnormal = _layouts(row)
    region = np.asarray(changed_region(normal, abnormal, normal_half.image.shape[0]))
    return SampleRequest(
        row["image_id"], asked(abnormal), normal_half.image, region, to_avoid(asked(normal), asked(abnormal))
    )
