"""A rotten or lost object of the store is named, and put back from an intact file; never from another damaged one."""

import hashlib
import json
import shutil
from pathlib import Path

from tasks.releasing.objects import damaged, drop_torn, heal, place_of


def _md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def _store(root: Path) -> dict[str, str]:
    """A tree with a folder of two files, and its store."""
    listed = []
    for name in ("one", "two"):
        data = name.encode()
        for path in (root / "tree" / "data" / name, place_of(root / "store", _md5(data))):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        listed.append({"md5": _md5(data), "relpath": name})
    text = json.dumps(listed).encode()
    place = place_of(root / "store", f"{_md5(text)}.dir")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(text)
    return {"data": f"{_md5(text)}.dir"}


def test_a_rotten_and_a_lost_object_are_named_and_healed(tmp_path: Path) -> None:
    tracked, store = _store(tmp_path), tmp_path / "store"
    assert damaged(store, tracked) == (3, [])
    place_of(store, _md5(b"one")).write_bytes(b"rotten")
    place_of(store, _md5(b"two")).unlink()
    count, faults = damaged(store, tracked)
    assert (count, [f.name for f in faults]) == (3, ["data/one", "data/two"])
    assert heal(store, faults, tmp_path / "tree") == []
    assert damaged(store, tracked) == (3, [])


def test_what_is_damaged_in_the_tree_too_stays_named(tmp_path: Path) -> None:
    tracked, store = _store(tmp_path), tmp_path / "store"
    place_of(store, _md5(b"one")).unlink()
    (tmp_path / "tree" / "data" / "one").write_bytes(b"other")
    _, faults = damaged(store, tracked)
    assert [f.name for f in heal(store, faults, tmp_path / "tree")] == ["data/one"]


def test_a_damaged_list_of_a_folder_is_named_alone(tmp_path: Path) -> None:
    tracked, store = _store(tmp_path), tmp_path / "store"
    place_of(store, tracked["data"]).write_bytes(b"[]")
    count, faults = damaged(store, tracked)
    assert (count, [f.name for f in faults]) == (1, ["data"])
    assert heal(store, faults, tmp_path / "tree") == faults


def test_what_a_killed_push_left_half_written_goes_with_its_folder_s_list(tmp_path: Path) -> None:
    """DVC takes a folder's files for there where its list is."""
    tracked, cache, remote = _store(tmp_path), tmp_path / "store", tmp_path / "remote"
    shutil.copytree(cache, remote)
    assert drop_torn(remote, cache, tracked) == 0
    half = place_of(remote, _md5(b"one"))
    half.write_bytes(b"o")
    place_of(remote, _md5(b"two")).write_bytes(b"twO")
    assert drop_torn(remote, cache, tracked) == 1
    assert not half.exists()
    assert not place_of(remote, tracked["data"]).exists()
    assert place_of(remote, _md5(b"two")).read_bytes() == b"twO", "as long as it should be: rotten, to be named"


def test_half_a_list_of_a_folder_goes(tmp_path: Path) -> None:
    tracked, cache, remote = _store(tmp_path), tmp_path / "store", tmp_path / "remote"
    shutil.copytree(cache, remote)
    place_of(remote, tracked["data"]).write_bytes(b"")
    assert drop_torn(remote, cache, tracked) == 1
    assert not place_of(remote, tracked["data"]).exists()
