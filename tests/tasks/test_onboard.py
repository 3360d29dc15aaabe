"""The steps of an onboarding: nothing changes before the approval, and more data costs only itself."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from fetalflex.dicom.sandbox import Sandbox
from fetalflex.errors import MissingSecretError, ParameterError, UsageError
from fetalflex.ingest import manifest
from fetalflex.ingest.manifest import read_manifest
from fetalflex.onboarding import worker
from tasks.approval import Decision, read_approvals
from tasks.onboard import Onboarding, Request, check_request, finish_approval, summarize
from tasks.private import private_folder
from tasks.staging import Staging
from tasks.workspace import create_workspace, load_center, load_params
from tests.fetalflex.dicom.samples import write_center, write_image

YES = Decision(approved=True, name="Ada", asked="script")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fresh") / "ws"
    create_workspace(place, "tiny")
    (place / ".fetalflex").mkdir()
    (place / ".fetalflex/key").write_text("0123456789abcdef0123456789abcdef")
    return place


@pytest.fixture
def root(fresh: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fresh, tmp_path / "ws", symlinks=True))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_center(tmp_path / "source", 4)


def _state(root: Path) -> dict[str, bytes]:
    """What a decision may change: everything but the ignored folders of work and state."""
    found = [p for p in root.rglob("*") if p.is_file() and p.relative_to(root).parts[0] not in (".git", ".dvc")]
    return {
        str(p.relative_to(root)): p.read_bytes()
        for p in found
        if p.relative_to(root).parts[0] not in (".work", ".fetalflex")
    }


def _onboard(root: Path, request: Request, decision: Decision | None = YES, *, look: bool = False) -> dict[str, Any]:
    """Run the steps; the trial and the page, which read pixels and text, only where they are looked at."""
    with private_folder(root, request.center) as private:
        work = Onboarding(root, request, private)
        work.fetch()
        if not work.probe():
            work.refuse()
            return summarize(work) | {"nothing_new": True}
        work.draft()
        if look:
            work.trial()
            work.write_page()
            assert "Private" in work.page.read_text()
        if decision is None:
            return summarize(work)
        if decision.approved:
            work.apply(decision)
        else:
            work.refuse()
        return summarize(work)


def test_an_approved_center_is_listed_with_profile_manifest_and_record(root: Path, source: Path) -> None:
    summary = _onboard(root, Request("north", str(source), trial=2), look=True)
    assert (summary["images"], summary["annotations"], summary["trial"]["frames"]) == (4, 2, 2)
    params = load_params(root)
    assert params.ingest.centers["north"] == "frames"
    assert load_center(root, "north").planes == {"brain": "brain"}
    assert "# how planes" in (root / "centers/north.yaml").read_text().lower()
    manifest = read_manifest(root / "incoming/north.manifest")
    assert len(manifest) == 6
    assert len([p for p in (root / "incoming/north").rglob("*") if p.is_file()]) == 6
    (entry,) = read_approvals(root, "north")
    assert (entry["approved_by"], entry["files"]) == ("Ada", 6)
    from fetalflex.artifacts import file_sha256

    assert entry["profile_sha256"] == file_sha256(root / "centers/north.yaml")
    assert entry["manifest_sha256"] == file_sha256(root / "incoming/north.manifest")
    assert not Staging(root, "north").base.exists()
    assert (root / "incoming/north").stat().st_mode & 0o777 == 0o700


def test_the_manifest_is_the_one_that_a_run_would_write(root: Path, source: Path) -> None:
    from tasks.incoming import stale_manifest
    from tasks.workspace import workspace_key

    _onboard(root, Request("north", str(source)))
    assert not stale_manifest(root, "north", workspace_key(root, load_params(root)))


def test_a_refused_center_leaves_everything_as_it_was(root: Path, source: Path) -> None:
    before = _state(root)
    _onboard(root, Request("north", str(source)), Decision(approved=False))
    assert _state(root) == before
    assert not Staging(root, "north").base.exists()
    assert not (root / ".fetalflex/onboarding/north").exists()


def test_an_interrupted_one_changes_nothing_and_is_gone_on_with(root: Path, source: Path) -> None:
    before = _state(root)
    _onboard(root, Request("north", str(source)), None)
    assert _state(root) == before
    assert len(Staging(root, "north").names()) == 6
    with private_folder(root, "north") as private:
        work = Onboarding(root, Request("north", str(source)), private)
        work.fetch()
        assert dict(work.found.fetched) == {"known": 6}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose headers were asked for, and those whose bytes were hashed, by name."""
    seen: list[str] = []
    run, content = Sandbox.run, manifest.file_sha256

    def counted(self: Sandbox, function: Any, /, **arguments: Any) -> Any:
        if function is worker.probe_headers:
            seen.extend(f"header {Path(p).name}" for p in arguments["paths"])
        return run(self, function, **arguments)

    def hashed(path: Path) -> str:
        if ".work" in path.parts and path.parent.name != "trial":
            seen.append(f"bytes {path.name}")
        return content(path)

    monkeypatch.setattr(Sandbox, "run", counted)
    monkeypatch.setattr(manifest, "file_sha256", hashed)
    return seen


def test_more_data_of_a_center_only_adds_and_reads_only_what_is_new(root: Path, source: Path, reads: list[str]) -> None:
    _onboard(root, Request("north", str(source)))
    assert len(set(reads)) == 12  # six headers, six contents
    profile = root / "centers/north.yaml"
    profile.write_text(profile.read_text().replace("not stated", "agreement 7"))
    before = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in (root / "incoming/north").rglob("*.dcm")}
    reads.clear()
    write_image(source / "late" / "new.dcm", 20)
    summary = _onboard(root, Request("north", str(source)))
    assert (summary["files"], summary["new_files"], summary["read_files"]) == (7, 1, 1)
    assert len(reads) == 2
    assert len({r.split()[1] for r in reads}) == 1
    assert {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in before} == before
    assert load_center(root, "north").licence == "agreement 7"  # the steward's profile stays
    assert [a["new_files"] for a in read_approvals(root, "north")] == [6, 1]


def test_nothing_new_asks_nobody(root: Path, source: Path, reads: list[str]) -> None:
    _onboard(root, Request("north", str(source)))
    before = _state(root)
    reads.clear()
    assert _onboard(root, Request("north", str(source)))["nothing_new"]
    assert reads == []
    assert _state(root) == before


def test_a_refusal_of_more_data_keeps_what_was_approved(root: Path, source: Path) -> None:
    _onboard(root, Request("north", str(source)))
    before = _state(root)
    write_image(source / "late" / "new.dcm", 20)
    _onboard(root, Request("north", str(source)), Decision(approved=False))
    assert _state(root) == before


def test_an_edited_draft_is_taken_as_edited(root: Path, source: Path) -> None:
    with private_folder(root, "north") as private:
        work = Onboarding(root, Request("north", str(source)), private)
        work.fetch()
        work.probe()
        work.draft()
        text = work.draft_path.read_text().replace("role: normal", "role: test_only").replace('"North"', '"Nordklinik"')
        work.draft_path.write_text(text)
        work.apply(YES)
    assert load_center(root, "north").title == "Nordklinik"
    assert load_params(root).ingest.centers["north"] == "test_only"
    assert (root / "centers/north.yaml").read_text() == text


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("brain: brain", "brain: brian", "brian"),
        ("role: normal", "role: nromal", "role"),
        ('"brain": b', "[", "no YAML"),
    ],
)
def test_a_draft_edited_wrongly_is_named_and_changes_nothing(
    root: Path, source: Path, old: str, new: str, said: str
) -> None:
    before = _state(root)
    with private_folder(root, "north") as private:
        work = Onboarding(root, Request("north", str(source)), private)
        work.fetch()
        work.probe()
        work.draft()
        text = work.draft_path.read_text().replace(
            '"brain": brain', "brain: brain" if old[0] == "b" else '"brain": brain'
        )
        work.draft_path.write_text(text.replace(old, new))
        with pytest.raises(ParameterError, match=said):
            work.apply(YES)
    assert _state(root) == before


def test_an_approval_that_was_killed_half_way_is_carried_out_by_the_next(
    root: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("tasks.onboard.write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            _onboard(root, Request("north", str(source)))
    assert "north" not in load_params(root).ingest.centers
    assert finish_approval(root, "north")
    assert load_params(root).ingest.centers["north"] == "frames"
    assert len(read_manifest(root / "incoming/north.manifest")) == 6
    assert len(read_approvals(root, "north")) == 1
    assert not finish_approval(root, "north")


def test_comments_and_order_of_params_are_kept(root: Path, source: Path) -> None:
    path = root / "params.yaml"
    path.write_text(path.read_text().replace("ingest:\n", "# our own remark\ningest:\n"))
    before = path.read_text().splitlines()
    _onboard(root, Request("north", str(source)))
    after = path.read_text().splitlines()
    assert [line for line in after if line in before] == before
    assert len(after) == len(before) + 1


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request("North", "x"), "lower-case"),
        (Request("../up", "x"), "lower-case"),
        (Request("phantom-tiny-a", "x"), "simulated"),
        (Request("north", "x", trial=0), "at least 1"),
        (Request("north", "x", role="norm"), "test_only"),
        (Request("north", "x", profile="missing.yaml"), "missing.yaml"),
        (Request("north", "incoming/north"), "incoming"),
    ],
)
def test_what_cannot_be_carried_out_is_said_before_anything_is_fetched(
    root: Path, monkeypatch: pytest.MonkeyPatch, request_: Request, said: str
) -> None:
    monkeypatch.chdir(root)
    (root / "incoming/north").mkdir(parents=True)
    with pytest.raises(UsageError, match=said):
        check_request(root, request_)


def test_a_real_center_needs_a_secret_key_even_beside_phantoms(root: Path, source: Path) -> None:
    (root / ".fetalflex/key").unlink()
    with pytest.raises(MissingSecretError, match="openssl rand"):
        check_request(root, Request("north", str(source)))


def test_simulated_centers_are_warned_of(root: Path, source: Path) -> None:
    with private_folder(root, "north") as private:
        work = Onboarding(root, Request("north", str(source)), private)
        work.fetch()
        work.probe()
        work.draft()
        work.write_page()
        assert "simulated centers (phantom-tiny-a, phantom-tiny-b)" in work.page.read_text()


def test_the_same_image_under_two_patients_is_told(root: Path, tmp_path: Path) -> None:
    for name in ("A", "B"):
        write_image(tmp_path / "twice" / f"{name}.dcm", 1, patient_id=name, sop_uid=f"2.25.{ord(name)}")
    with private_folder(root, "north") as private:
        work = Onboarding(root, Request("north", str(tmp_path / "twice")), private)
        work.fetch()
        work.probe()
        work.draft()
        work.trial()
        work.write_page()
        assert "more than one patient number: 1 image." in work.page.read_text()
