import numpy as np
import pytest

from benchmarks.fuzz import fuzz, verdict
from benchmarks.mutations import MUTATIONS, mutate
from fetalflex.errors import Reason


def test_a_mutated_file_is_the_same_in_every_run() -> None:
    bases = [bytes(128) + b"DICM" + np.random.default_rng(n).bytes(3000) for n in range(3)]
    first = [mutate(bases, 7, n) for n in range(40)]
    assert first == [mutate(bases, 7, n) for n in range(40)]
    assert len({data for data, _ in first}) > 20  # some mutations find nothing to change in noise
    assert mutate(bases, 8, 0) != first[0]


def test_every_mutation_takes_any_bytes() -> None:
    for name, change in MUTATIONS.items():
        for size in (200, 3000):
            data = bytearray(np.random.default_rng(size).bytes(size))
            assert len(change(data, np.random.default_rng(1), [bytes(200)])) > 0, name


def test_one_bad_frame_decides_a_files_verdict() -> None:
    assert verdict({"decoded": 2}) == "decoded"  # type: ignore[arg-type]
    assert verdict({"decoded": 1, "frame: empty_image": 1}) == "frame: empty_image"  # type: ignore[arg-type]
    assert verdict({}) == "nothing"  # type: ignore[arg-type]


@pytest.mark.slow
def test_500_mutated_files_end_decoded_or_in_a_named_quarantine() -> None:
    result = fuzz(500, seed=1)
    assert result["odd"] == []
    named = {end.removeprefix("frame: ") for end in result["ends"]} - {"decoded"}
    assert named <= {reason.value for reason in Reason}
    assert sum(result["ends"].values()) == 500
    assert result["ends"]["decoded"] > 50
