import pytest

from fetalflex.errors import UsageError
from fetalflex.studio.desk import Desk
from fetalflex.studio.sitting import IDLE_S, MOST_SITTINGS, MOST_UNDO, EndedError, Sitting, Sittings
from tests.fetalflex.studio.rooms import head


def test_undo_and_redo_give_the_very_states_back() -> None:
    sitting, states = Sitting(), [Desk.of(head(w), str(w)) for w in (6.0, 7.0, 8.0)]
    for state in states:
        sitting.put(state)
    sitting.undo()
    assert sitting.desk is states[1]
    sitting.undo()
    sitting.undo()
    assert sitting.desk is states[0]
    sitting.redo()
    sitting.redo()
    assert sitting.desk is states[2]
    sitting.undo()
    sitting.put(states[0])
    assert sitting.steps == (2, 0)


def test_a_slider_on_its_way_is_one_step() -> None:
    sitting = Sitting()
    sitting.put(Desk.of(head(), "start"))
    for number in range(5):
        sitting.put(Desk.of(head(), str(number)), merge=number > 0)
    assert sitting.steps == (1, 0)


def test_the_past_has_an_end() -> None:
    sitting = Sitting()
    for _ in range(MOST_UNDO + 10):
        sitting.put(Desk.of(head(), "x"))
    assert sitting.steps[0] == MOST_UNDO


def test_an_empty_desk_says_how_to_begin() -> None:
    with pytest.raises(UsageError, match="start first"):
        Sitting().need()


def test_sittings_are_forgotten_when_idle_or_ended_and_ids_are_ours_alone() -> None:
    now, gone = [0.0], list[str]()
    sittings = Sittings(gone.append, lambda: now[0])
    first = sittings.open("an id of somebody's own choice")
    assert first.id != "an id of somebody's own choice"
    assert sittings.open(first.id) is first
    now[0] = IDLE_S + 1
    second = sittings.open(None)
    assert gone == [first.id]
    with pytest.raises(EndedError):
        sittings.find(first.id)
    sittings.end(second.id)
    assert gone == [first.id, second.id]
    assert len(sittings) == 0


def test_there_are_never_more_than_so_many() -> None:
    sittings = Sittings(lambda _: None)
    for _ in range(MOST_SITTINGS + 5):
        sittings.open(None)
    assert len(sittings) == MOST_SITTINGS
