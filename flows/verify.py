"""The scheduled proof: the newest release, or a named one, with other images made again each time."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from fetalflex.errors import FetalFlexError
from fetalflex.release.manifest import MANIFEST
from flows.hooks import tell_failure
from flows.release import run_verification
from tasks import repository
from tasks.releasing.verify import Proof, withdrawn_for
from tasks.workspace import find_root


@flow(
    name="verify", persist_result=False, flow_run_name="verify {tag}", on_failure=[tell_failure],
    on_crashed=[tell_failure],
)  # fmt: skip
def verify(tag: str = "", images: int = 16) -> State[Any]:
    """Prove a release of the workspace that the process stands in.

    `tag`: empty for the newest; `images`: -1 for all.
    """
    root = find_root(Path.cwd())
    try:
        tag = tag or _newest(root)
        if not tag:
            return Completed(message="there is no release yet")
        year, week, _ = datetime.now(UTC).isocalendar()
        proof = run_verification(root, tag, None if images < 0 else images, seed=100 * year + week)
    except FetalFlexError as error:
        return Failed(message=" ".join(str(error).split()))
    create_markdown_artifact(key="verify", markdown=page(proof), description=f"release {tag}")
    differing = proof.findings.differences
    if proof.ok:
        return Completed(message=f"release {tag} is proven: {len(proof.remade)} images made again")
    named = ", ".join(f"{d.part} {d.name}" for d in differing[:3])
    return Failed(message=f"release {tag} is NOT proven: {proof.withdrawn or f'{len(differing)} differences: {named}'}")


def _newest(root: Path) -> str:
    """Return the newest release that was not withdrawn, empty where there is none."""
    for tag in reversed(repository.tags(root)):
        is_release = repository.show(root, f"refs/tags/{tag}", MANIFEST.as_posix()) is not None
        if is_release and withdrawn_for(root, tag) is None:
            return tag
    return ""


def page(proof: Proof) -> str:
    """Return what a proof found, as Markdown."""
    found = proof.as_dict()
    rows = [f"| {part} | {count} |" for part, count in found["hashes"].items()]
    wrong = [f"- **{d['part']} {d['name']}**: {d['found']}, expected {d['expected']}" for d in found["differences"]]
    lines = [
        f"# Release {proof.tag}: {'proven' if proof.ok else 'not proven'}",
        f"{found['checked']} images made again, {found['identical']} identical.",
        "\n".join(["| checked | number |", "|---|---|", *rows]),
        "\n".join(wrong or ["No differences."]),
        "\n".join(f"- not checked: {item}" for item in proof.not_checked),
    ]
    return "\n\n".join(line for line in lines if line)
