import copy
import inspect
import pickle

import pytest

from fetalflex import errors
from fetalflex.errors import FetalFlexError, QuarantineError, Reason, UsageError

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_hangs_on_the_one_tree_and_says_what_it_is(kind: type[Exception]) -> None:
    assert issubclass(kind, FetalFlexError)
    assert kind.__doc__


@pytest.mark.parametrize("kind", ALL)
def test_only_a_wrong_command_or_parameter_exits_with_2(kind: type[FetalFlexError]) -> None:
    assert kind.exit_code == (2 if issubclass(kind, UsageError) else 1)


def test_quarantine_names_reason_and_detail_on_one_line() -> None:
    error = QuarantineError(Reason.TRUNCATED, "12 of 40 bytes")
    assert str(error) == "truncated: 12 of 40 bytes"
    assert (error.reason, error.detail) == (Reason.TRUNCATED, "12 of 40 bytes")


def test_quarantine_survives_the_way_between_two_processes() -> None:
    error = QuarantineError(Reason.TRUNCATED, "12 of 40 bytes")
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (str(again), again.reason, again.detail) == (str(error), error.reason, error.detail)


@pytest.mark.parametrize("reason", Reason)
def test_reasons_are_words_for_a_table(reason: Reason) -> None:
    assert reason.value == reason.name.lower()
