"""A remote on S3: a real server that speaks its protocol, a network that drops, an object that rots."""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fetalflex.errors import WorkspaceError
from tasks import repository, versioning
from tasks.releasing.objects import damaged
from tests.proxy import DroppingProxy

pytest.importorskip("moto.server", reason="moto is not installed: pip install 'fetalflex[dev]'")
pytest.importorskip("dvc_s3", reason="the extra s3 is not installed: pip install 'fetalflex[s3]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # botocore's and moto's own
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, Any]]:
    """A server's port and a client of it; credentials come from the environment."""
    import boto3
    from moto.server import ThreadedMotoServer

    for name, value in {
        "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
    client.create_bucket(Bucket="releases")
    yield port, client
    server.stop()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository of git and DVC with a versioned folder of 200 kB."""
    root = tmp_path / "ws"
    (root / "release" / "files").mkdir(parents=True)
    repository.git(root, "init", "-q")
    versioning._dvc(root, "init", "-q")
    versioning.add_remote(root, "s3://releases/ws")
    for n in range(4):
        (root / "release" / "files" / f"{n}.bin").write_bytes(hashlib.sha256(bytes([n])).digest() * 1600)
    versioning.add(root, "release/files")
    return root


def _through(root: Path, port: int) -> None:
    versioning._dvc(root, "remote", "modify", "--local", "storage", "endpointurl", f"http://127.0.0.1:{port}")


def test_a_push_that_was_cut_off_is_an_error_and_the_next_one_completes_it(
    root: Path, s3: tuple[int, Any], tmp_path: Path
) -> None:
    port, client = s3
    tracked = versioning.tracked(root)
    with DroppingProxy(port, drop_after=120_000) as proxy:
        _through(root, proxy.port)
        with pytest.raises(WorkspaceError, match="dvc push failed"):
            versioning.push(root)
        assert proxy.cut > 0
    _through(root, port)
    versioning.push(root)
    versioning.use_cache(root, tmp_path / "proof")
    versioning.fetch(root)
    assert damaged(tmp_path / "proof", tracked) == (5, [])
    # An object that rots on the server keeps its name: only reading it again shows it.
    md5 = hashlib.md5((root / "release/files/2.bin").read_bytes()).hexdigest()
    client.put_object(Bucket="releases", Key=f"ws/files/md5/{md5[:2]}/{md5[2:]}", Body=b"rotten")
    versioning.use_cache(root, tmp_path / "again")
    with suppress(WorkspaceError):  # DVC may refuse it itself, or take it: either way it must be named
        versioning.fetch(root)
    count, faults = damaged(tmp_path / "again", tracked)
    assert (count, [f.name for f in faults]) == (5, ["release/files/2.bin"])
