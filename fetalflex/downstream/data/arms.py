"""The arms: from a task and a training's spec to the images that it learns from, and those that it is tested on."""

from dataclasses import dataclass

import numpy as np

from fetalflex.downstream.data.anomalies import ABNORMAL, NORMAL, AnomalyTask
from fetalflex.downstream.data.augment import cut_and_paste
from fetalflex.downstream.data.labelled import Images, Labelled, Labels, class_numbers, join, some_patients
from fetalflex.downstream.data.planes import PlaneTask
from fetalflex.downstream.protocol import CLASSIC, MIXED, NOISE, SYNTHETIC, UNSEEN, TrainingSpec
from fetalflex.errors import TooFewCasesError
from fetalflex.rng import derive_seed, generator


@dataclass(frozen=True, eq=False)
class Pool:
    """What one training learns from: images and class numbers [N], the classes, and how images are augmented.

    `groups`: within a class the groups [N] are drawn equally often (real and synthetic normals, say).
    """

    images: Images
    labels: Labels
    groups: Labels
    classes: tuple[str, ...]
    strong: bool = False


def plane_pool(spec: TrainingSpec, task: PlaneTask, seed: int) -> Pool:
    """Return the training images of an arm of the plane task.

    Without a center its real images and the synthetic ones in its style are left out. Raises: TooFewCasesError where
    the arm has no image of some class.
    """
    real = some_patients(_without(task.real, spec.without), spec.shots, derive_seed(seed, "shots", spec.repeat))
    count = round(spec.ratio * len(_without(task.real, spec.without)))
    parts: list[Labelled] = [] if spec.arm == SYNTHETIC else [real]
    if spec.arm in (MIXED, SYNTHETIC):
        parts.append(_some(_without(task.synthetic, spec.without), count, derive_seed(seed, "synthetic", spec.repeat)))
    elif spec.arm == UNSEEN:
        parts.append(_some(task.unseen, count, derive_seed(seed, "unseen", spec.repeat)))
    elif spec.arm == NOISE:
        parts.append(_noise(task, count, derive_seed(seed, "noise", spec.repeat)))
    data = join(parts)
    labels = class_numbers(data.labels, task.classes)
    missing = [name for i, name in enumerate(task.classes) if not (labels == i).any()]
    if missing:
        raise TooFewCasesError(
            f"evaluate: the arm {spec.arm} of the plane task has no image of {', '.join(missing)}; raise "
            "sample.normal, or take the arm out of evaluate.arms"
        )
    return Pool(data.images, labels, np.zeros_like(labels), task.classes, spec.arm == CLASSIC)


def anomaly_pool(spec: TrainingSpec, task: AnomalyTask, seed: int) -> Pool:
    """Return the training images of an arm of the anomaly task, classes normal (0) and abnormal (1).

    `real+augmentation` makes its anomalies by cut and paste, so that no arm sees a real abnormal image. Where synthetic
    abnormal images are learnt, half of the normal ones drawn are synthetic: or real against synthetic would be learnt.
    `real` learns planes, see `pretext_pool`.
    """
    if spec.arm == CLASSIC:
        rng = generator(seed, "cut and paste", spec.repeat)
        made = cut_and_paste(task.real.images, rng)
        labels = np.repeat(np.array([0, 1], np.int64), len(made))
        images = np.concatenate([task.real.images, made])
        return Pool(images, labels, np.zeros_like(labels), (NORMAL, ABNORMAL), strong=True)
    count = round(spec.ratio * len(task.real))
    made = task.synthetic.images[_chosen(len(task.synthetic), count, derive_seed(seed, "normals", spec.repeat))]
    parts = [(task.synthetic_abnormal.images, 1, 0), (made, 0, 1)]
    if spec.arm == MIXED:
        parts.append((task.real.images, 0, 0))
    images = np.concatenate([p[0] for p in parts])
    labels, groups = (np.concatenate([np.full(len(p[0]), p[k], np.int64) for p in parts]) for k in (1, 2))
    if not (labels == 0).any():
        raise TooFewCasesError(f"evaluate: the anomaly arm {spec.arm} has no normal image; raise sample.normal")
    return Pool(images, labels, groups, (NORMAL, ABNORMAL))


def pretext_pool(task: AnomalyTask) -> Pool:
    """Return what the arm `real` of the anomaly task learns: planes (or, with one plane, centers) of real images.

    Its distance to the real training images in the learnt features is then its anomaly score.
    """
    names = task.real.labels if len(np.unique(task.real.labels)) > 1 else task.real.centers
    classes = tuple(np.unique(names).tolist())
    labels = class_numbers(names, classes)
    return Pool(task.real.images, labels, np.zeros_like(labels), classes)


def plane_test(spec: TrainingSpec, task: PlaneTask) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the positions of the test images of a training: all, or those of the center that was left out."""
    return np.nonzero(task.test.centers == spec.without if spec.without else np.ones(len(task.test), bool))[0]


def leavable_centers(task: PlaneTask) -> tuple[str, ...]:
    """Return the centers that can be left out: tested on two planes or more, and not needed by any of the classes."""
    found = []
    for center in np.unique(task.test.centers).tolist():
        tested = np.unique(task.test.labels[task.test.centers == center])
        left = np.unique(task.real.labels[task.real.centers != center])
        if len(tested) >= 2 and set(task.classes) <= set(left.tolist()):
            found.append(str(center))
    return tuple(found)


def _without(data: Labelled, center: str) -> Labelled:
    return data.take(data.centers != center) if center else data


def _chosen(total: int, count: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.sort(generator(seed, "chosen").permutation(total)[:count])


def _some(data: Labelled, count: int, seed: int) -> Labelled:
    return data.take(_chosen(len(data), count, seed))


def _noise(task: PlaneTask, count: int, seed: int) -> Labelled:
    """Return images of pure noise under random labels, as many as synthetic ones there could be."""
    rng = generator(seed, "noise")
    images = rng.integers(0, 256, (count, *task.real.images.shape[1:]), dtype=np.uint8)
    labels = rng.choice(np.array(task.classes), count)
    return Labelled(images, labels.astype(np.str_), np.full(count, "noise"), np.full(count, "noise"))
