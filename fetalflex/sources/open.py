"""One text names a source: a folder, an archive, or the address of a DICOMweb server."""

from pathlib import Path

from fetalflex.errors import SourceError, UsageError
from fetalflex.sources.archive import ArchiveSource
from fetalflex.sources.base import Limits, Source
from fetalflex.sources.folder import FolderSource
from fetalflex.sources.query import Manners, Query


def open_source(
    text: str, query: Query | None = None, *, limits: Limits | None = None, manners: Manners | None = None
) -> Source:
    """Return the source that `text` names: `https://...` is a DICOMweb server, all else a folder or an archive.

    Nothing is fetched or asked yet. Raises: SourceError where there is no such thing; UsageError for a query on files
    or manners on files (their headers are read only in the sandbox, later), or for a server's address that is not safe.
    """
    limits = limits or Limits()
    if text.lower().startswith(("https://", "http://")):
        from fetalflex.sources.dicomweb import DicomwebSource

        return DicomwebSource(text, query or Query(), limits=limits, manners=manners or Manners())
    if query is not None or manners is not None:
        asked = "a query asks" if query is not None else "a pace is for"
        raise UsageError(f"{asked} a DICOMweb server; a folder or an archive is taken whole")
    path = Path(text).expanduser()
    if path.is_dir():
        return FolderSource(path, limits)
    if path.is_file():
        return ArchiveSource(path, limits)
    raise SourceError(f"{text}: is no folder, no archive and no https:// address; see docs/howto/sources.md")
