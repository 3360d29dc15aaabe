"""Made images for the downstream tests: femurs are bars, abdomens disks, brains rings, abnormal ones filled."""

import numpy as np

from fetalflex.downstream.data.anomalies import Material, Pairs
from fetalflex.downstream.data.labelled import Labelled
from fetalflex.rng import generator

SIDE = 32
PLANES = ("abdomen", "femur", "transventricular")
_Y, _X = np.mgrid[:SIDE, :SIDE] - SIDE / 2


def image(plane, rng, wide=0.0, noise=100):
    x, y = rng.uniform(-2, 2, 2)
    r = np.hypot(_X - x, _Y - y)
    shapes = {"femur": np.abs(_Y - y) < 3, "abdomen": r < 9, "transventricular": np.abs(r - 11) < 2}
    grey = shapes[plane] * 150 + rng.uniform(0, noise, (SIDE, SIDE))
    if wide:
        grey[r < wide] = 250
    return grey.clip(0, 255).astype(np.uint8)


def labelled(count, prefix, planes=PLANES, wide=0.0, centers=2):
    rng = generator(0, prefix)
    names = [planes[i % len(planes)] for i in range(count)]
    images = np.array([image(n, rng, wide) for n in names], np.uint8).reshape(-1, SIDE, SIDE)
    patients = [f"{prefix}{i // 2}" for i in range(count)]
    return Labelled(
        images, np.array(names, str), np.array(patients, str), np.array([f"c{i % centers}" for i in range(count)], str)
    )


def pairs(count=8):
    rng = generator(0, "pairs")
    normal = np.array([image("transventricular", rng) for _ in range(count)]).reshape(-1, SIDE, SIDE)
    severities = np.linspace(2, 6, count)
    regions = np.array([np.hypot(_X, _Y) < s for s in severities]).reshape(-1, SIDE, SIDE)
    return Pairs(
        normal, np.where(regions, 250, normal).astype(np.uint8), regions, np.full(count, "ventriculomegaly"),
        np.full(count, "transventricular"), np.array([f"q{i}" for i in range(count)], str), severities,
        np.full(count, "mm"),
    )  # fmt: skip


def material(**changes):
    grades = ["mild-ventriculomegaly"] * 6 + ["severe-ventriculomegaly"] * 6 + ["chiari"] * 6
    found = labelled(18, "abnormal", ("transventricular",), wide=5).relabelled(grades)
    brain = ("transventricular",)
    parts = {
        "real": labelled(24, "r"), "synthetic": labelled(24, "s"),
        "synthetic_abnormal": labelled(12, "sa", brain, wide=4), "calibration": labelled(18, "j"),
        "test": labelled(24, "t"), "abnormal": found, "abnormal_planes": np.full(18, "transventricular"),
        "pairs": pairs(),
    }  # fmt: skip
    return Material(**(parts | changes))
