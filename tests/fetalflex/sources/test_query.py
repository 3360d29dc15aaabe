from datetime import date

import pytest

from fetalflex.errors import SourceError, UsageError
from fetalflex.sources.archive import ArchiveSource
from fetalflex.sources.dicomweb import DicomwebSource
from fetalflex.sources.folder import FolderSource
from fetalflex.sources.open import open_source
from fetalflex.sources.query import FORM, PACE_FORM, Manners, Query, parse_pace, parse_query


def test_the_form_that_errors_show_is_understood() -> None:
    query = parse_query(FORM)
    assert query == Query(("US", "SEG", "SR"), date(2024, 1, 1), date(2024, 12, 31), ("brain", "abdomen"), 50)
    assert query.dates == "20240101-20241231"


@pytest.mark.parametrize(
    ("text", "dates"),
    [
        ("", ""),
        ("date=2024-02-29..", "20240229-"),
        ("date=..2024-02-29", "-20240229"),
        ("date=2024-02-29", "20240229-20240229"),
    ],
)
def test_dates_may_be_open(text: str, dates: str) -> None:
    assert parse_query(text).dates == dates


@pytest.mark.parametrize(
    "text",
    ["x", "modality=", "date=2024-02-30", "date=2024-02-02..2024-02-01", "patients=0", "patients=-1", "patients=x",
     "modality=us", "modality=US modality=CT", "name=DOE"],
)  # fmt: skip
def test_a_wrong_query_is_refused_and_the_form_shown(text: str) -> None:
    with pytest.raises(UsageError, match="form: modality=US"):
        parse_query(text)


def test_a_pace_is_read_as_its_form_shows_it_and_half_of_it_leaves_the_rest_as_it_is() -> None:
    assert parse_pace(PACE_FORM) == Manners(requests_per_s=20, bytes_per_s=5e6)
    assert parse_pace("requests=0.5") == Manners(requests_per_s=0.5)
    assert parse_pace("") == Manners()


@pytest.mark.parametrize("text", ["x", "requests=", "requests=0", "requests=-1", "requests=1 requests=2", "bytes=5",
                                  "requests=nan", "megabytes=1e9"])  # fmt: skip
def test_a_wrong_pace_is_refused_and_the_form_shown(text: str) -> None:
    with pytest.raises(UsageError, match="form: requests=20"):
        parse_pace(text)


def test_one_text_tells_the_kinds_of_sources_apart(tmp_path, monkeypatch) -> None:
    import zipfile

    for name in ("TOKEN", "USER", "PASSWORD"):
        monkeypatch.delenv(f"FETALFLEX_DICOMWEB_{name}", raising=False)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", b"a")
    assert isinstance(open_source(str(tmp_path)), FolderSource)
    assert isinstance(open_source(str(tmp_path / "a.zip")), ArchiveSource)
    assert isinstance(open_source("HTTPS://pacs.example/dicom-web/"), DicomwebSource)
    with pytest.raises(SourceError, match="no folder, no archive"):
        open_source(str(tmp_path / "missing"))
    with pytest.raises(UsageError, match="a query asks"):
        open_source(str(tmp_path), Query())
    with pytest.raises(UsageError, match="a pace is for"):
        open_source(str(tmp_path), manners=Manners())
    with pytest.raises(UsageError, match="use https"):
        open_source("http://pacs.example/dicom-web")
