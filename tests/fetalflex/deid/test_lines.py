from fetalflex.deid.lines import BRIDGE_PX, LONG_MOST_PX, bridge, is_alone, pad


def test_a_line_found_in_two_pieces_is_covered_between_them_and_other_lines_are_not() -> None:
    left, right, below, far = (10, 20, 60, 40), (70, 22, 120, 41), (10, 60, 60, 80), (300, 20, 340, 40)
    assert bridge((left, right, below, far), (200, 400)) == ((10 - BRIDGE_PX, 20, 120 + BRIDGE_PX, 41),)


def test_a_line_of_which_one_piece_lost_the_tops_of_its_letters_is_covered_to_their_tops() -> None:
    ((_, top, _, bottom),) = bridge(((155, 253, 220, 265), (217, 248, 239, 264)), (600, 800))
    assert (top, bottom) == (248, 265)


def test_a_large_patch_beside_a_line_does_not_grow_along_it() -> None:
    assert bridge(((10, 20, 60, 32), (62, 0, 120, 50)), (200, 400)) == ()


def test_ends_of_tall_lines_get_no_wider_margin_than_short_ones_need() -> None:
    x0, y0, x1, y1 = pad((400, 300, 700, 340), (1000, 1500))
    assert (400 - x0, x1 - 700) == (LONG_MOST_PX, LONG_MOST_PX)
    assert (300 - y0, y1 - 340) == (24, 24)


def test_a_blob_is_alone_unless_a_line_or_another_piece_lies_beside_it() -> None:
    blob = (100, 100, 118, 114)
    assert is_alone(blob, [(99, 99, 119, 115), (100, 140, 180, 154), (300, 100, 318, 114)])  # itself, below, far away
    assert not is_alone(blob, [(130, 101, 150, 115)])
    assert not is_alone(blob, [(90, 101, 180, 115)])
    assert not is_alone((100, 100, 160, 114), [])
