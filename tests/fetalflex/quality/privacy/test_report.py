import numpy as np

from fetalflex.quality.privacy.exposure import exposure
from fetalflex.quality.privacy.nearest import Search, nearest_training
from fetalflex.quality.privacy.report import assess
from tests.fetalflex.quality.privacy.galleries import Blur, gallery, pictures

TRAINING = gallery(24, 1, "t")


def test_copies_are_counted_and_the_verdict_stands_beside_what_the_search_is_worth():
    made = np.concatenate([TRAINING.images[[4, 5, 9]], pictures(9, 7)])
    held_out = (gallery(8, 11, "test"), gallery(6, 12, "judge"))
    nearest, privacy = assess(
        Search(TRAINING, Blur()), (made, [f"s{i}" for i in range(12)]), held_out, canaries=4, bootstrap=20, seed=1
    )
    assert len(nearest) == 12
    assert (privacy.near_copies, privacy.n, privacy.n_training) == (3, 12, 24)
    assert privacy.near_copy_low < 0.25 < privacy.near_copy_high
    assert privacy.canary_recall > 0.9
    assert privacy.canaries[0].n_held_out == 14
    assert {n.image_id for n in privacy.nearest[:3]} == {"s0", "s1", "s2"}
    assert "14 held-out images" in privacy.warning


def test_exposure_is_counted_by_patient():
    found = nearest_training(Search(TRAINING, Blur()), TRAINING.images[[4, 5, 9]], np.array(["a", "b", "c"]))
    told = exposure(TRAINING, found)
    assert (told.patients, told.with_copy, told.touched, told.most_images) == (12, 2, 2, 2)
    assert {e.copies for e in told.highest} == {1, 2}
