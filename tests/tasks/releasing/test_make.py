"""What a release asks of the gate's verdict before anything else is done."""

import pytest

from fetalflex.errors import UsageError
from fetalflex.params import Criterion, Gate
from fetalflex.quality.gate import decide
from tasks.releasing.make import _marked

GOOD, BAD = ({"image_id": name, "dice": dice} for name, dice in (("good", 0.9), ("bad", 0.1)))
KID = {"metrics": [{"name": "kid", "value": 0.2, "floor": None}]}


def _verdict(rows: list[dict[str, object]], at_most: float) -> dict[str, object]:
    release = (Criterion(metric="kid", at_most=at_most, reason="they differ"),)
    return decide(KID, {}, rows, Gate(release=release, image=(Criterion(metric="dice", at_least=0.5, reason="r"),)))


def test_past_the_gate_nothing_is_marked() -> None:
    assert _marked(_verdict([GOOD, BAD], 0.3), allow_failing=False) is None


def test_a_rejecting_gate_refuses_or_marks() -> None:
    missed = r"kid: must be <= 0.1, is 0.2 \(they differ\)"
    with pytest.raises(UsageError, match=f"{missed}. With --allow-failing-gate"):
        _marked(_verdict([GOOD, BAD], 0.1), allow_failing=False)
    assert "kid: must be <= 0.1" in (_marked(_verdict([GOOD, BAD], 0.1), allow_failing=True) or "")


@pytest.mark.parametrize("allow_failing", [False, True])
def test_without_an_accepted_image_there_is_no_release_at_all(allow_failing: bool) -> None:
    said = "accepts none of the 1 images, so there is nothing to release, marked or not.*gate.image dice >= 0.5"
    with pytest.raises(UsageError, match=said):
        _marked(_verdict([BAD], 0.3), allow_failing=allow_failing)
