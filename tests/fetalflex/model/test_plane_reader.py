from pathlib import Path

import numpy as np
import pytest

from fetalflex.anatomy.ontology import plane_index
from fetalflex.dataset import Cases
from fetalflex.errors import ModelError
from fetalflex.model.plane_reader import PlaneReader, compatible, fit_plane_reader, plane_figures
from tests.fetalflex import tiny


def _two_planes(count: int = 24) -> Cases:
    """Every second case shows another plane: bright, whatever the aligner learned."""
    cases = tiny.cases(count)
    cases.planes[::2] = plane_index("femur")
    cases.images[::2] = 255 - cases.images[::2]
    return cases


def test_reads_planes_that_look_different() -> None:
    cases = _two_planes()
    reader = fit_plane_reader(tiny.aligner(), cases, cases)
    assert reader is not None
    assert reader.planes == ("transventricular", "femur")
    found = plane_figures(reader, cases)
    assert (found["n"], found["accuracy"]) == (24, 1.0)
    assert reader.read(cases.images[0])[0] == "femur"
    assert np.allclose(reader.predict(cases.images).sum(1), 1)


def test_confidence_follows_what_others_show() -> None:
    """Held-out cases whose planes are wrong half of the time: a calibrated reader is no longer sure."""
    cases, others = _two_planes(), _two_planes()
    others.planes[: len(others) // 2] = others.planes[: len(others) // 2][::-1]
    sure, humble = (fit_plane_reader(tiny.aligner(), cases, held) for held in (cases, others))
    assert sure is not None
    assert humble is not None
    assert float(humble.temperature.detach()) > float(sure.temperature.detach())
    assert plane_figures(humble, cases)["confidence"] < plane_figures(sure, cases)["confidence"]


def test_fit_is_the_same_every_time() -> None:
    one, two = (fit_plane_reader(tiny.aligner(), _two_planes(), _two_planes()) for _ in range(2))
    assert one is not None
    assert two is not None
    assert np.array_equal(one.predict(_two_planes().images), two.predict(_two_planes().images))


def test_one_plane_gives_no_reader() -> None:
    assert fit_plane_reader(tiny.aligner(), tiny.cases(), tiny.cases()) is None


def test_not_stated_planes_are_not_learned() -> None:
    cases = _two_planes()
    cases.planes[1::2] = plane_index("unknown")
    assert fit_plane_reader(tiny.aligner(), cases, cases) is None


def test_layer_lies_beside_its_aligner(tmp_path: Path) -> None:
    cases = _two_planes()
    tiny.aligner().save(tmp_path)
    assert PlaneReader.load_beside(tmp_path) is None
    reader = fit_plane_reader(tiny.aligner(), cases, cases)
    assert reader is not None
    reader.save_head(tmp_path)
    again = PlaneReader.load_beside(tmp_path)
    assert again is not None
    assert np.array_equal(again.predict(cases.images), reader.predict(cases.images))
    (tmp_path / "planes.json").write_text('{"planes": ["femur"]}')
    with pytest.raises(ModelError, match="no layer of this aligner"):
        PlaneReader.load_beside(tmp_path)


def test_planes_that_leave_it_open_fit_those_they_may_be() -> None:
    assert compatible("brain", "transventricular")
    assert compatible("transventricular", "brain")
    assert compatible("unknown", "femur")
    assert not compatible("brain", "abdomen")
    assert not compatible("transventricular", "transthalamic")
