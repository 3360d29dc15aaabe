import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflex.errors import Reason, SourceError
from fetalflex.sources.archive import ArchiveSource, sniff
from fetalflex.sources.base import Limits
from fetalflex.sources.folder import FolderSource
from tests.fetalflex.sources.test_folder import TREES, assert_arrived_once
from tests.fetalflex.sources.trees import contents, fetch, reasons, states, write_tree

KINDS = ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz")
each_kind = pytest.mark.parametrize("kind", KINDS)
SMALL = Limits(grace_bytes=100_000, expansion=20)


def pack(path: Path, members: list[tuple[str, bytes]], kind: str) -> Path:
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members:
                archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        return path
    with tarfile.open(path, "w:" + kind.partition(".")[2]) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@each_kind
@given(files=TREES)
def test_every_member_arrives_once_and_nothing_is_unpacked_elsewhere(kind: str, files: dict, tmp_path_factory) -> None:
    here = tmp_path_factory.mktemp("archive")
    files = {n.replace("\\", "-").replace(":", "-"): d for n, d in files.items()}
    path = pack(here / f"a.{kind}", list(files.items()), kind)
    source = ArchiveSource(path)
    assert source.listing().instances == len(files)
    assert_arrived_once(lambda: fetch(ArchiveSource(path), here / "in" / "c"), here / "in" / "c", files)
    assert {p.name for p in here.iterdir()} == {f"a.{kind}", "in"}


@each_kind
def test_paths_out_of_the_archive_are_refused_and_the_rest_arrives(kind: str, tmp_path: Path) -> None:
    hostile = ["../up", "/absolute", "a/../../up", "C:\\windows", "..\\up", "\\\\host\\share"]
    path = pack(tmp_path / "a", [(name, b"bad") for name in hostile] + [("fine", b"fine")], kind)
    events = fetch(ArchiveSource(path), tmp_path / "in" / "c")
    assert reasons(events) == {Reason.OUTSIDE_TREE: len(hostile)}
    assert contents(tmp_path / "in" / "c") == {b"fine": 1}


def test_links_devices_and_sparse_members_of_a_tar_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
                                       tarfile.FIFOTYPE)):  # fmt: skip
            info = tarfile.TarInfo(f"m{number}")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        sparse = tarfile.TarInfo("sparse")
        sparse.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": "1"}
        archive.addfile(sparse)
        archive.addfile(tarfile.TarInfo("fine"))
    events = fetch(ArchiveSource(tmp_path / "a.tar"), tmp_path / "in" / "c")
    assert reasons(events) == {Reason.OUTSIDE_TREE: 6}
    assert states(events)["new"] == 1


def test_links_and_encrypted_members_of_a_zip_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("secret", b"secret")
        archive.writestr("fine", b"fine")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    entry = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    data[entry + 8] |= 1  # general purpose bit 0 of "secret": encrypted
    (tmp_path / "a.zip").write_bytes(data)
    events = fetch(ArchiveSource(tmp_path / "a.zip"), tmp_path / "in" / "c")
    assert reasons(events) == {Reason.OUTSIDE_TREE: 1, Reason.ENCRYPTED: 1}
    assert contents(tmp_path / "in" / "c") == {b"fine": 1}


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "tar"])  # a plain tar expands to nothing but itself
def test_a_bomb_ends_in_a_named_reason(kind: str, tmp_path: Path) -> None:
    members = [("first", b"f"), ("bomb", bytes(400_000))]
    path = pack(tmp_path / "a", members, kind)
    events = list(ArchiveSource(path, SMALL)._offers())
    assert [o.refused.reason for o in events if o.refused] == [Reason.BOMB]


@each_kind
def test_too_many_members_and_too_large_members_are_refused(kind: str, tmp_path: Path) -> None:
    path = pack(tmp_path / "a", [(f"m{i}", bytes([i])) for i in range(5)] + [("large", b"y" * 50)], kind)
    events = [o.refused.reason for o in ArchiveSource(path, Limits(members=4))._offers() if o.refused]
    assert events == [Reason.BOMB]
    events = fetch(ArchiveSource(path, Limits(file_bytes=49)), tmp_path / "in" / "c")
    assert reasons(events) == {Reason.TOO_LARGE: 1}


def test_a_zip_whose_table_of_contents_claims_gigabytes_is_a_bomb(tmp_path: Path) -> None:
    data = bytearray(pack(tmp_path / "a.zip", [("a", b"a")], "zip").read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end + 12 : end + 20] = struct.pack("<II", 64 * 2**20, 0)
    with (tmp_path / "a.zip").open("wb") as out:
        out.write(b"PK\x03\x04")
        out.seek(64 * 2**20 + 10)
        out.write(data[end:])
    (offer,) = ArchiveSource(tmp_path / "a.zip")._offers()
    assert offer.refused is not None
    assert offer.refused.reason is Reason.BOMB


def test_overlapping_members_of_a_zip_are_a_bomb(tmp_path: Path) -> None:
    """One compressed kernel under a thousand names: each expands to it."""
    kernel = bytes(1000)
    data = pack(tmp_path / "a.zip", [("a", kernel)], "zip").read_bytes()
    entry, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    many = data[entry:end] * 1000
    tail = bytearray(data[end:])
    tail[8:16] = struct.pack("<HHI", 1000, 1000, len(many))
    (tmp_path / "a.zip").write_bytes(data[:entry] + many + tail)
    (offer,) = ArchiveSource(tmp_path / "a.zip", SMALL)._offers()
    assert offer.refused is not None
    assert offer.refused.reason is Reason.BOMB


def test_a_long_header_of_a_tar_is_not_read(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar.gz", [("d/" * 20_000 + "x", b"x")], "tar.gz")
    assert [o.refused.reason for o in ArchiveSource(path)._offers() if o.refused] == [Reason.BOMB]


@each_kind
@given(cut=st.floats(0.02, 0.98))
def test_a_cut_archive_is_told_and_never_a_crash(kind: str, cut: float, tmp_path_factory) -> None:
    here = tmp_path_factory.mktemp("cut")
    members = [(f"m{i}", bytes([i]) + bytes(range(256)) * 20) for i in range(6)]
    data = pack(here / "a", members, kind).read_bytes()
    (here / "t").mkdir()
    (here / "t" / f"a.{kind}").write_bytes(data[: int(len(data) * cut)])
    (here / "t" / "whole").write_bytes(b"whole")
    events = fetch(FolderSource(here / "t"), here / "in" / "c")
    told = reasons(events)
    assert contents(here / "in" / "c")[b"whole"] == 1
    # A tar without its closing zeros is whole to tarfile and to us: all its members are there.
    assert told.total() >= 1 or states(events)["new"] == 7
    assert set(told) <= {Reason.DAMAGED_ARCHIVE}


@each_kind
@given(place=st.floats(0.0, 0.999), bit=st.integers(0, 7))
def test_a_flipped_bit_never_crashes(kind: str, place: float, bit: int, tmp_path_factory) -> None:
    here = tmp_path_factory.mktemp("flip")
    data = bytearray(pack(here / "a", [(f"m{i}", bytes([i]) + bytes(range(200))) for i in range(3)], kind).read_bytes())
    data[int(len(data) * place)] ^= 1 << bit
    write_tree(here / "t", {f"a.{kind}": bytes(data), "whole": b"whole"})
    fetch(FolderSource(here / "t", SMALL), here / "in" / "c")
    assert contents(here / "in" / "c")[b"whole"] == 1


@each_kind
def test_an_archive_in_a_folder_is_opened_and_one_in_an_archive_is_not(kind: str, tmp_path: Path) -> None:
    inner = pack(tmp_path / "inner", [("x", b"x")], "zip").read_bytes()
    (tmp_path / "t").mkdir()
    pack(tmp_path / "t" / f"outer.{kind}", [("inner.zip", inner), ("y", b"y")], kind)
    write_tree(tmp_path / "t", {"y": b"beside"})
    events = fetch(FolderSource(tmp_path / "t"), tmp_path / "in" / "c")
    assert reasons(events) == {Reason.NOT_DICOM: 1}
    assert contents(tmp_path / "in" / "c") == {b"y": 1, b"beside": 1}


def test_a_damaged_member_is_refused_and_the_others_arrive(tmp_path: Path) -> None:
    data = bytearray(pack(tmp_path / "a.zip", [("a", b"a" * 99), ("b", b"b" * 99)], "zip").read_bytes())
    data[data.index(zlib.compress(b"a" * 99, wbits=-15)[:4]) + 1] ^= 255
    (tmp_path / "a.zip").write_bytes(data)
    events = fetch(ArchiveSource(tmp_path / "a.zip"), tmp_path / "in" / "c")
    assert reasons(events) == {Reason.DAMAGED_ARCHIVE: 1}
    assert contents(tmp_path / "in" / "c") == {b"b" * 99: 1}


def test_dicom_whose_preamble_looks_like_a_zip_is_dicom() -> None:
    assert sniff(b"PK\x03\x04" + bytes(124) + b"DICM", "a.zip") is None


def test_what_is_no_archive_or_has_nothing_to_take_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    with pytest.raises(SourceError, match="no archive"):
        ArchiveSource(tmp_path / "text")
    with pytest.raises(SourceError, match="no member"):
        ArchiveSource(pack(tmp_path / "a.zip", [("../a", b"a")], "zip")).listing()
    with pytest.raises(SourceError, match="cannot be read"):
        ArchiveSource(tmp_path / "missing.zip")
