"""A DICOMweb server as a source: QIDO-RS lists instances, WADO-RS brings each as it is stored, once.

Studies, then the series and the instances of each: two requests per study beside the pages. Retrieval is one instance
at a time, in the transfer syntax it is stored in. Source: DICOM PS3.18 10.4 (retrieve), 10.6 (search).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import requests

from fetalflex.deid.keys import PseudonymKey
from fetalflex.errors import QuarantineError, Reason, SourceError
from fetalflex.sources.base import Fetched, Limits, Listing, Offer, refuse, write_blocks
from fetalflex.sources.landing import land
from fetalflex.sources.multipart import read_instance
from fetalflex.sources.polite import PoliteSession, TransferError, silence
from fetalflex.sources.query import Manners, Query

Row = dict[str, Any]
UID = re.compile(r"[0-9]+(\.[0-9]+)*")
ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'
FIELDS = ["StudyDescription", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"]
ANNOTATIONS = ("SEG", "SR", "RTSTRUCT", "PR")
PATIENT, DESCRIPTIONS, MODALITY = "00100020", ("00081030", "0008103E"), "00080060"
STUDY, SERIES, INSTANCE = "0020000D", "0020000E", "00080018"
STUDY_SERIES, STUDY_INSTANCES, SERIES_INSTANCES = "00201206", "00201208", "00201209"


@dataclass(frozen=True)
class _Listed:
    """An instance as the server names it."""

    study: str
    series: str
    uid: str
    modality: str


class _SearchError(SourceError):
    """The server answers a search with a status of failure, or with no JSON."""


@dataclass
class DicomwebSource:
    """Instances of a server that match a query.

    Raises: UsageError for an address that is not safe; MissingSecretError for half a credential.
    """

    address: str
    query: Query = field(default_factory=Query)
    limits: Limits = field(default_factory=Limits)
    manners: Manners = field(default_factory=Manners)
    session: PoliteSession | None = None
    _listed: list[_Listed] | None = field(default=None, init=False)
    _patients: set[str] = field(default_factory=set, init=False)
    _refused: set[str] = field(default_factory=set, init=False)  # what stands in a UID's place

    def __post_init__(self) -> None:
        from dicomweb_client.web import DICOMwebClient

        scheme, _, rest = self.address.rstrip("/").partition("://")
        self.address = f"{scheme.lower()}://{rest}"
        self.session = self.session or PoliteSession(self.address, self.manners)
        self._http = self.session
        self._client = DICOMwebClient(self.address, session=self._http, permissive_uid=True)
        self._client.set_http_retry_params(retry=False)  # the session does that, and honours Retry-After

    def listing(self) -> Listing:
        """Ask the server, once. Raises: SourceError where it fails or nothing matches; MissingSecretError."""
        if self._listed is None:
            self._listed = list(self._search())
        if not self._listed:
            raise SourceError(f"{self._http.host}: no instance matches the query; see its modality, dates and words")
        return Listing(
            "dicomweb",
            len(self._listed),
            None,
            {Reason.BAD_IDENTIFIER: len(self._refused)} if self._refused else {},
            patients=len(self._patients),
            studies=len({i.study for i in self._listed}),
            by_modality=dict(Counter(i.modality for i in self._listed)),
        )

    def fetch(self, into: Path, key: PseudonymKey) -> Iterator[Fetched]:
        """Retrieve every instance that is not there yet. Raises: SourceError, MissingSecretError, WorkspaceError."""
        listing = self.listing()
        yield from land(self._offers(), into, key, listing.instances + len(self._refused))

    def _offers(self) -> Iterator[Offer]:
        for item in self._listed or ():
            yield Offer(f"instance {item.uid}", "stored", 0, partial(self._retrieve, item), by_content=False)
        for name in sorted(self._refused):
            yield refuse(f"unnamed {name}", Reason.BAD_IDENTIFIER, "the server lists it under a UID that is none")

    def _search(self) -> Iterator[_Listed]:
        """Yield each instance once, in the server's order."""
        seen: set[str] = set()
        self._patients, self._refused = set(), set()
        for study in self._studies():
            chosen = self._series(study)
            if not chosen:
                continue
            self._patients.add(_text(study, PATIENT) or _text(study, STUDY))
            ask = partial(self._client.search_for_instances, _text(study, STUDY))
            expected = _number(study, STUDY_INSTANCES)
            for row in self._pages(ask, {}, INSTANCE, expected):
                uid, series = _text(row, INSTANCE), _text(row, SERIES)
                if series not in chosen or uid in seen:
                    continue
                seen.add(uid)
                yield _Listed(_text(study, STUDY), series, uid, chosen[series])

    def _studies(self) -> Iterator[Row]:
        filters = {"ModalitiesInStudy": self.query.modalities[0]}
        if self.query.dates:
            filters["StudyDate"] = self.query.dates
        patients: set[str] = set()
        ask = partial(self._client.search_for_studies, fields=FIELDS)
        for study in self._pages(ask, filters, STUDY, None):
            # Without a patient's number a study stands for a patient of its own.
            patient = _text(study, PATIENT) or _text(study, STUDY)
            if self.query.patients is not None and patient not in patients and len(patients) >= self.query.patients:
                continue
            if self.query.words and not self._series(study):
                continue
            patients.add(patient)
            yield study

    def _series(self, study: Row) -> dict[str, str]:
        """Return series UID -> modality of what matches in a study; annotations where an image series does."""
        known = study.get("matching")
        if known is not None:
            return dict(known)
        ask = partial(self._client.search_for_series, _text(study, STUDY), fields=["SeriesDescription"])
        chosen: dict[str, str] = {}
        for row in self._pages(ask, {}, SERIES, _number(study, STUDY_SERIES)):
            modality = _text(row, MODALITY)
            if modality in self.query.modalities and (modality in ANNOTATIONS or self._matches(study, row)):
                chosen[_text(row, SERIES)] = modality
        if self.query.words and all(m in ANNOTATIONS for m in chosen.values()) and not self._matches(study, {}):
            chosen = {}
        study["matching"] = chosen
        return chosen

    def _matches(self, study: Row, series: Row) -> bool:
        if not self.query.words:
            return True
        told = " ".join(_text(row, tag) for row in (study, series) for tag in DESCRIPTIONS).casefold()
        return any(word in told for word in self.query.words)

    def _pages(
        self, ask: Callable[..., list[Row]], filters: dict[str, str], name: str, expected: int | None
    ) -> Iterator[Row]:
        """Yield rows with new UIDs, page by page, until the server has told all: its own number, or nothing new.

        A server may give fewer rows than asked, or all of them at every offset (PS3.18 10.6.3.3: it chooses). Rows
        behind an offset may be lost (Orthanc 1.10.1 loses them where it filters by ModalitiesInStudy): where a page
        was full, all is asked for once more from the start, twice as far.
        """
        seen: set[str] = set()
        limit, offset, full = self.manners.page, 0, False
        while not seen or len(seen) != expected:  # its number ends the pages early, and never hides an instance
            try:
                rows = self._ask(ask, filters, limit, offset)
            except _SearchError:
                if limit == self.manners.page:
                    raise
                return  # more than the server gives at a time; its offsets have been followed before
            fresh = 0
            for row in rows:
                uid = _text(row, name)
                if not UID.fullmatch(uid) or len(uid) > 64:
                    self._refused.add(uid)
                elif uid not in seen:
                    seen.add(uid)
                    fresh += 1
                    yield row
            full, offset = full or len(rows) >= limit, offset + len(rows)
            if not fresh and not full:
                return
            if not fresh:
                limit, offset, full = 2 * len(seen), 0, False

    def _ask(self, ask: Callable[..., list[Row]], filters: dict[str, str], limit: int, offset: int) -> list[Row]:
        try:
            with silence():
                rows = ask(search_filters=filters, limit=limit, offset=offset)
        except (requests.RequestException, ValueError, TypeError, AttributeError) as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            told = f"status {status}" if status else "no DICOM JSON"
            raise _SearchError(
                f"{self._http.host}: the search fails ({told}); see that this is the address of its DICOMweb service"
            ) from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise SourceError(f"{self._http.host}: answers a search with something that is no list of DICOM JSON")
        return rows

    def _retrieve(self, item: _Listed, target: Path) -> None:
        """Write one instance to `target`; a transfer that breaks off is begun anew."""
        from dicomweb_client.uri import URI

        url = str(URI(self.address, item.study, item.series, item.uid, permissive=True))
        for attempt in range(1, self.manners.attempts + 1):
            target.unlink(missing_ok=True)
            try:
                with silence(), self._http.get(url, headers={"Accept": ACCEPT}, stream=True) as response:
                    if not response.ok:
                        raise QuarantineError(Reason.NOT_RETRIEVED, f"the server answers status {response.status_code}")
                    blocks = self._http.read(response)
                    kind = response.headers.get("Content-Type", "")
                    write_blocks(read_instance(blocks, kind), target, self.limits.file_bytes)
            except TransferError:
                if attempt < self.manners.attempts:
                    self._http.back_off(attempt)
                continue
            return
        raise QuarantineError(Reason.NOT_RETRIEVED, f"the transfer broke off {self.manners.attempts} times")


def _text(row: Row, tag: str) -> str:
    """Return the first value of an attribute of DICOM JSON as text, or nothing. Source: PS3.18 F.2."""
    element = row.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    value = values[0] if isinstance(values, list) and values else ""
    return str(value) if isinstance(value, str | int) else ""


def _number(row: Row, tag: str) -> int | None:
    text = _text(row, tag)
    return int(text) if text.isdecimal() else None
