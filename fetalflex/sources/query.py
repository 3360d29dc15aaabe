"""What is asked of a DICOMweb server, and how politely: both typed, both writable as one line of text."""

import re
from dataclasses import dataclass
from datetime import date

from fetalflex.errors import UsageError

PACE_FORM = "requests=20 megabytes=5"
FORM = "modality=US,SEG,SR date=2024-01-01..2024-12-31 description=brain,abdomen patients=50"
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")  # DICOM PS3.5, table 6.2-1: CS


@dataclass(frozen=True)
class Query:
    """Which instances. Studies with the first modality, between two dates; of them the series of all modalities.

    `words`: one of them occurs in the study's or the series' description, case aside (none: any). Annotations (SEG,
    SR) are taken whatever their own series is called, where the study has a series that matches. `patients`: at most
    so many, in the server's order.
    """

    modalities: tuple[str, ...] = ("US", "SEG", "SR")
    first_date: date | None = None
    last_date: date | None = None
    words: tuple[str, ...] = ()
    patients: int | None = None

    def __post_init__(self) -> None:
        if not self.modalities or not all(_CODE.fullmatch(m) for m in self.modalities):
            raise UsageError(f"query: modality: expected codes such as US; form: {FORM}")
        if self.first_date and self.last_date and self.last_date < self.first_date:
            raise UsageError(f"query: date: the last day lies before the first; form: {FORM}")
        if self.patients is not None and self.patients < 1:
            raise UsageError(f"query: patients: expected 1 or more; form: {FORM}")

    @property
    def dates(self) -> str:
        """The range of study dates as QIDO-RS writes it, or empty. Source: DICOM PS3.4 C.2.2.2.5."""
        if self.first_date is None and self.last_date is None:
            return ""
        first, last = (d.strftime("%Y%m%d") if d else "" for d in (self.first_date, self.last_date))
        return f"{first}-{last}"


@dataclass(frozen=True)
class Manners:
    """How a server is treated. `bytes_per_s` None: as fast as it sends. `plain_http`: allow http beyond loopback."""

    requests_per_s: float = 20.0
    bytes_per_s: float | None = None
    connect_s: float = 10.0
    read_s: float = 60.0
    attempts: int = 6
    first_wait_s: float = 1.0  # doubles with every attempt, plus up to a quarter at random
    longest_wait_s: float = 300.0
    page: int = 500  # answers asked for at a time
    plain_http: bool = False


def parse_pace(text: str) -> Manners:
    """Read how fast a server is asked: requests and megabytes per second. Raises: UsageError, which shows the form.

    >>> parse_pace("requests=2 megabytes=0.5").bytes_per_s
    500000.0
    """
    values: dict[str, float] = {}
    for part in text.split():
        name, _, value = part.partition("=")
        if name not in ("requests", "megabytes") or name in values or not _NUMBER.fullmatch(value) or not float(value):
            raise UsageError(f"pace: a part is not understood; form: {PACE_FORM}, per second, each above 0")
        values[name] = float(value)
    size = values.get("megabytes")
    return Manners(
        requests_per_s=values.get("requests", Manners.requests_per_s), bytes_per_s=None if size is None else size * 1e6
    )


def parse_query(text: str) -> Query:
    """Read `key=value` pairs separated by spaces. Raises: UsageError, which shows the form.

    >>> parse_query("modality=US date=2024-01-01.. description=brain,head patients=5").dates
    '20240101-'
    """
    values: dict[str, str] = {}
    for part in text.split():
        name, sign, value = part.partition("=")
        if not sign or not value or name not in ("modality", "date", "description", "patients") or name in values:
            raise UsageError(f"query: a part is not understood; form: {FORM}")
        values[name] = value
    first, last = _parse_dates(values.get("date", ".."))
    number = values.get("patients")
    if number is not None and not number.isdecimal():
        raise UsageError(f"query: patients: expected a number; form: {FORM}")
    return Query(
        modalities=tuple(values.get("modality", ",".join(Query().modalities)).split(",")),
        first_date=first,
        last_date=last,
        words=tuple(w.casefold() for w in values.get("description", "").split(",") if w),
        patients=int(number) if number else None,
    )


def _parse_dates(text: str) -> tuple[date | None, date | None]:
    first, dots, last = text.partition("..")
    try:
        days = [date.fromisoformat(d) if d else None for d in (first, last if dots else first)]
    except ValueError:
        raise UsageError(f"query: date: expected DAY or DAY..DAY as YYYY-MM-DD; form: {FORM}") from None
    return days[0], days[1]
