import csv
import io
from pathlib import Path

import numpy as np

from fetalflex.reader_study.results import COLUMNS, Study, render, summarize, to_csv
from fetalflex.reader_study.store import Answer
from tests.fetalflex.reader_study.studies import answer, make, read_all


def read(tmp_path: Path) -> tuple[list[dict[str, object]], Study]:
    store, tokens = make(tmp_path / "study")

    def sees(image: int, truth: str) -> Answer:
        wrong = image % 5 == 0
        said = truth if not wrong else "real"
        return answer(said, 4 if said == "real" else 2, structures=("head",), comment="=1+1 <b>")

    random = np.random.default_rng(0)
    read_all(store, tokens["R01"], sees)
    read_all(
        store, tokens["R02"], lambda *_: answer(("real", "synthetic")[random.integers(2)], int(random.integers(1, 6)))
    )
    return store.rows(), Study("A <study>", 16, 4, 5, store.readers())


def test_the_page_says_what_the_answers_say_and_holds_nothing_from_elsewhere(tmp_path: Path) -> None:
    rows, study = read(tmp_path)
    page, figures = render(study, rows), summarize(rows)
    share = figures["by_reader"]["R01"]
    assert f"{share.hits} of {share.n}" in page
    assert f"{100 * share.low:.1f} %" in page
    assert "A &lt;study&gt;" in page
    assert "R01 20 of 20, R02 20 of 20" in page
    assert page.count("data:image/png") == 3
    assert 'src="http' not in page
    assert render(study, rows) == page


def test_an_unread_study_says_so(tmp_path: Path) -> None:
    store, _ = make(tmp_path / "study")
    assert "No reader has answered yet" in render(Study("x", 16, 4, 5, store.readers()), [])


def test_one_reader_alone_is_reported_too(tmp_path: Path) -> None:
    store, tokens = make(tmp_path / "study")
    read_all(store, tokens["R01"], lambda *_: answer(), stop=1)
    assert "1 of 20" in render(Study("x", 16, 4, 5, store.readers()), store.rows())


def test_the_table_holds_every_answer_and_no_formula(tmp_path: Path) -> None:
    rows, _ = read(tmp_path)
    found = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert len(found) == 40
    assert tuple(found[0]) == COLUMNS
    assert {r["comment"] for r in found} == {"'=1+1 <b>", ""}
