"""Judgements of drawn ellipses."""

import numpy as np

from fetalflex.anatomy.ontology import STRUCTURE_NAMES, structure_index
from fetalflex.quality.control.judgement import Judgement

SIDE = 64


def ellipse(x, y, a, b):
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    return ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1


def judged(pairs, mm=2.0, absent=()):
    """pairs: per image {structure: (seen mask, asked mask)}."""
    shape = (len(pairs), len(STRUCTURE_NAMES))
    seen, asked = np.zeros((*shape, SIDE, SIDE), bool), np.zeros((*shape, SIDE, SIDE), bool)
    wanted, gone = np.zeros(shape, bool), np.zeros(shape, bool)
    for n, found in enumerate(pairs):
        for name, (s, a) in found.items():
            k = structure_index(name)
            seen[n, k], asked[n, k], wanted[n, k] = s, a, a.any()
    for name in absent:
        gone[:, structure_index(name)] = True
    spacing = np.full(len(pairs), mm)
    return Judgement(seen, asked, wanted, np.zeros(shape, bool), gone, spacing, np.arange(len(pairs)).astype(str))
