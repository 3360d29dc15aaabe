"""Is a synthetic image a training image again? Candidates by features and blurred pixels, then local structure.

Two heads look alike when blurred; their speckle and small structures do not. So each candidate is laid over the image
(scale and shift, straight and mirrored), and what counts is the correlation of the fine detail, from which local mean
and contrast are taken off: crops, gain, grey maps and re-sampling change it little. How alike strangers are differs
from data to data (small images of one device share the edge of its sector), so held-out images may raise the limit.
Whether the search finds what it must is measured by canaries (`quality.privacy.canaries`), every time.
"""

from dataclasses import dataclass

import numpy as np

from fetalflex.errors import TooFewCasesError
from fetalflex.ingest.alike import Views, compare_views
from fetalflex.quality.bootstrap import Array, Floats
from fetalflex.quality.features.encoder import Encoder
from fetalflex.quality.thumbnails import Images, blurred, thumbnails, unit_rows

COPY_CORRELATION = 0.55  # of unrelated images at most 0.53, of altered copies at least 0.56: docs/results.md
MOST_CORRELATION = 0.9  # the highest that strangers raise it to: beyond, a search finds altered copies no more
STRANGE_QUANTILE, STRANGE_MARGIN = 0.99, 0.03  # the limit over strangers: that quantile of theirs, and so much on top
LEAST_STRANGERS = 20  # fewer say nothing of their most alike hundredth
CANDIDATES = 6  # training images that are looked at in detail, of each of the two lists
_ZOOM = 0.9  # a crop keeps about that much of the side: centre and corners stand in the list beside the whole
_QUERIES = 256  # looked up at once: their likeness to every training image, six zooms, both ways, is held together


@dataclass(frozen=True)
class Gallery:
    """Images uint8 [N, S, S] with identifiers and patients str [N]."""

    images: Array
    ids: Array
    patients: Array

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Array) -> "Gallery":
        """Return the images of these positions."""
        return Gallery(self.images[index], self.ids[index], self.patients[index])


@dataclass(frozen=True)
class Nearest:
    """The nearest training images of one image.

    `case_id`: nearest in features, at `distance` (cosine, 0 to 2; of the image or its mirror image). `correlated_case`:
    the candidate whose detail correlates most, `correlation` (-1 to 1), `mirrored` left to right or not. `near_copy`:
    that correlation is above the search's limit.
    """

    image_id: str
    case_id: str
    distance: float
    correlated_case: str
    correlation: float
    mirrored: bool
    near_copy: bool


@dataclass(frozen=True, eq=False)
class Found:
    """Per query: position of the training image nearest in features, its distance; of the most alike, how, and how far.

    by_feature, by_detail: int64 [N]; distance, correlation: float64 [N]; mirrored: bool [N]; limit: of a near-copy.
    """

    by_feature: Array
    distance: Floats
    by_detail: Array
    correlation: Floats
    mirrored: Array
    limit: float

    @property
    def near_copy(self) -> Array:
        """Bool [N]."""
        return self.correlation > self.limit


class Search:
    """The training images, made ready to be searched. `encoder` is the aligned one.

    `limit`: correlation of detail above which an image is a near-copy.
    """

    limit: float = COPY_CORRELATION

    def __init__(self, training: Gallery, encoder: Encoder) -> None:
        """Raises: TooFewCasesError where there is no training image."""
        if not len(training):
            raise TooFewCasesError("privacy: no training image; expected at least one")
        self.training, self._encoder = training, encoder
        self.features = self.encode(training.images)
        self._rough = np.stack([blurred(part) for part in _zoomed(training.images)])  # [6, N, 256]
        self._views = Views(thumbnails(training.images))

    def encode(self, images: Images) -> Floats:
        """Return the aligned features of images as unit rows [N, D]."""
        return unit_rows(self._encoder.features(images))

    def calibrate(self, strangers: Images) -> None:
        """Raise the limit to what held-out images uint8 [N, S, S] of other patients hardly reach; never lower it.

        Fewer than `LEAST_STRANGERS` change nothing.
        """
        if len(strangers) >= LEAST_STRANGERS:
            reached = float(np.quantile(self.find(strangers).correlation, STRANGE_QUANTILE)) + STRANGE_MARGIN
            self.limit = min(max(COPY_CORRELATION, reached), MOST_CORRELATION)

    def find(self, queries: Images) -> Found:
        """Look each query uint8 [N, S, S] up. Raises: TooFewCasesError where there is none."""
        if not len(queries):
            raise TooFewCasesError("privacy: no query image; expected at least one")
        parts = [self._find(queries[start : start + _QUERIES]) for start in range(0, len(queries), _QUERIES)]

        def column(name: str) -> Array:
            return np.concatenate([getattr(part, name) for part in parts])

        return Found(
            column("by_feature"), column("distance"), column("by_detail"), column("correlation"), column("mirrored"),
            self.limit,
        )  # fmt: skip

    def _find(self, queries: Images) -> Found:
        flipped = np.ascontiguousarray(queries[:, :, ::-1])
        alike = np.stack([self.encode(side) @ self.features.T for side in (queries, flipped)])
        rough = np.stack([(blurred(side) @ self._rough.transpose(0, 2, 1)).max(0) for side in (queries, flipped)])
        candidates = np.concatenate([_best(alike), _best(rough)], axis=1)  # [N, 2 K], number + N_train if mirrored
        correlation = self._correlations(Views(thumbnails(np.concatenate([queries, flipped]))), candidates)
        rows, best, close = np.arange(len(queries)), correlation.argmax(1), alike.max(0)
        return Found(
            close.argmax(1),
            np.maximum(1 - close.max(1), 0.0).astype(np.float64),
            candidates[rows, best] % len(self.training),
            np.clip(correlation[rows, best], -1, 1).astype(np.float64),
            candidates[rows, best] >= len(self.training),
            self.limit,
        )

    def _correlations(self, queries: Views, candidates: Array) -> Floats:
        """Return how alike each query and each of its candidates [N, C] are in detail; a repeated one is left out.

        queries: N views as they are, then N mirrored.
        """
        ordered = np.argsort(candidates, axis=1, kind="stable")
        again = np.zeros(candidates.shape, bool)
        np.put_along_axis(again[:, :], ordered[:, 1:], np.diff(np.take_along_axis(candidates, ordered, 1)) == 0, 1)
        rows, columns = np.nonzero(~again)
        mirrored, number = np.divmod(candidates[rows, columns], len(self.training))
        result = np.full(candidates.shape, -1.0)
        result[rows, columns] = compare_views(
            (queries, self._views), rows + mirrored * len(candidates), number
        ).correlation
        return result


def nearest_training(search: Search, images: Images, ids: Array) -> tuple[Nearest, ...]:
    """Return for each synthetic image its nearest training images. Raises: TooFewCasesError where there is none."""
    return tuple(told(search, search.find(images), ids))


def told(search: Search, found: Found, ids: Array) -> list[Nearest]:
    """Return what was found with the identifiers of images and cases."""
    names = search.training.ids
    return [
        Nearest(
            str(ids[i]),
            str(names[found.by_feature[i]]),
            float(found.distance[i]),
            str(names[found.by_detail[i]]),
            float(found.correlation[i]),
            bool(found.mirrored[i]),
            bool(found.near_copy[i]),
        )
        for i in range(len(ids))
    ]


def _best(likeness: Array) -> Array:
    """Return the best candidates of likeness [2, N, T] (straight, mirrored) as numbers in 0 .. 2 T, [N, K]."""
    both = np.concatenate([likeness[0], likeness[1]], axis=1)
    count = min(CANDIDATES, both.shape[1])
    return np.argsort(-both, axis=1, kind="stable")[:, :count]


def _zoomed(images: Images) -> list[Images]:
    """Return the images whole, and cropped at the centre and at the four corners (same size again)."""
    side = images.shape[1]
    kept = max(1, round(_ZOOM * side))
    rest = side - kept
    places = [(rest // 2, rest // 2), (0, 0), (0, rest), (rest, 0), (rest, rest)]
    return [images, *(images[:, y : y + kept, x : x + kept] for y, x in places)]
