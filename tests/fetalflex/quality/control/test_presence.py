import numpy as np

from fetalflex.anatomy.ontology import structure_index
from fetalflex.quality.control.further import further_figures
from fetalflex.quality.control.presence import intruding, missing
from fetalflex.quality.gate_metrics import is_release_metric
from tests.fetalflex.quality.control.judged import ellipse, judged

HEAD, CSP, NOTHING = ellipse(32, 32, 20, 15), ellipse(36, 32, 4, 2), np.zeros((64, 64), bool)
K = structure_index("csp")


def test_a_structure_is_missing_where_nothing_of_it_is_seen_near_its_place():
    elsewhere = ellipse(8, 8, 4, 2)
    case = judged([{"csp": (CSP, CSP)}, {"csp": (NOTHING, CSP)}, {"csp": (elsewhere, CSP)}, {"head": (HEAD, HEAD)}])
    found = missing(case)[:, K]
    assert found[:3].tolist() == [0, 1, 1]
    assert np.isnan(found[3])


def test_what_was_asked_to_be_absent_intrudes_where_it_is_seen():
    case = judged([{"csp": (CSP, NOTHING)}, {"csp": (NOTHING, NOTHING)}], absent=["csp"])
    assert intruding(case)[:, K].tolist() == [1, 0]
    assert np.isnan(intruding(case)[:, structure_index("head")]).all()


def test_figures_carry_the_judges_own_on_real_images_and_are_known_to_the_gate():
    made = judged([{"head": (HEAD, HEAD), "csp": (NOTHING, CSP)}] * 4, absent=["stomach"])
    real = judged([{"head": (np.roll(HEAD, 2, 1), HEAD), "csp": (CSP, CSP)}] * 3)
    found = {f.name: f for f in further_figures(made, real, bootstrap=20, seed=1)}
    assert all(is_release_metric(name) for name in found)
    assert found["asked_but_absent.csp"].value == 1
    assert found["asked_but_absent.csp"].floor == 0
    assert found["asked_but_absent"].value == 0.5
    assert found["absent_but_present"].value == 0
    assert found["absent_but_present"].floor is None
    assert found["boundary_mm.head"].value == 0 < found["boundary_mm.head"].floor
    assert (found["size_error.hc"].n, found["size_error.hc"].n_real) == (4, 3)
