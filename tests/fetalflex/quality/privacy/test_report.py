import numpy as np

from fetalflex.quality.privacy.exposure import exposure
from fetalflex.quality.privacy.nearest import COPY_CORRELATION, MOST_CORRELATION, Gallery, Search, nearest_training
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


def test_strangers_that_share_a_device_s_edge_raise_the_limit_and_copies_stay_found():
    """Three sharp lines lie over every image, as a sector's edge does: taken by itself, it makes strangers alike."""

    def framed(images):
        images = images.copy()
        images[:, ::16] = 255
        return images

    training = Gallery(framed(TRAINING.images), TRAINING.ids, TRAINING.patients)
    sides = (gallery(30, 11, "test"), gallery(30, 12, "judge"))
    held_out = tuple(Gallery(framed(g.images), g.ids, g.patients) for g in sides)
    made = framed(np.concatenate([TRAINING.images[[4, 5, 9]], pictures(57, 7)]))
    search = Search(training, Blur())
    assert search.find(held_out[0].images).near_copy.mean() > 0.4
    _, privacy = assess(search, (made, [f"s{i}" for i in range(60)]), held_out, canaries=4, bootstrap=20, seed=1)
    assert COPY_CORRELATION < privacy.limit <= MOST_CORRELATION
    assert privacy.false_alarms < 0.1
    assert 3 <= privacy.near_copies <= 5
    assert privacy.canaries[0].recall == privacy.canaries[1].recall == 1


def test_exposure_is_counted_by_patient():
    found = nearest_training(Search(TRAINING, Blur()), TRAINING.images[[4, 5, 9]], np.array(["a", "b", "c"]))
    told = exposure(TRAINING, found)
    assert (told.patients, told.with_copy, told.touched, told.most_images) == (12, 2, 2, 2)
    assert {e.copies for e in told.highest} == {1, 2}
