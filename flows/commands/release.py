"""Commands of releases: release (and a center's withdrawal), verify."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fetalflex.errors import UsageError

if TYPE_CHECKING:
    from tasks.releasing.verify import Proof

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output instead of text.")]
Tag = Annotated[str, typer.Argument(metavar="TAG", help="The release's name, by convention vYYYY.MM.")]


def release(
    tag: Annotated[str, typer.Argument(metavar="TAG", help="The release's name, by convention vYYYY.MM.")] = "",
    allow_failing_gate: Annotated[
        bool, typer.Option("--allow-failing-gate", help="Make a release that the gate rejects; it is marked so.")
    ] = False,
    withdraw: Annotated[
        str, typer.Option(metavar="CENTER", help="Instead: a center leaves, with every release that came of it.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="With --withdraw, for scripts: do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Release what is committed: all of it becomes visible with the git tag, or nothing.

    Builds everything in a clean clone: Hugging Face Parquet with a dataset card, COCO with PNG, DICOM with SEG, a
    manifest with the SHA-256 of every image. Pushes the data to DVC's remote and reads every object again by its hash.
    Then the tag is made, and the generator marked in MLflow's registry; `champion` only past the gate.

    A rejecting gate refuses the release. After a kill, or where the remote was lost, the same command goes on. Publish
    with `git push origin TAG`.

    `--withdraw CENTER` tells what the center's leaving means for each release, asks, removes the center, runs the chain
    without it, and removes the objects of withdrawn releases from cache, remote and registry. There is no way back.
    """
    from tasks.workspace import find_root

    root = find_root(Path.cwd())
    if bool(tag) == bool(withdraw):
        raise UsageError("give a release's name, or --withdraw CENTER")
    if withdraw:
        _withdraw(root, withdraw, yes, as_json)
        return
    from flows.release import run_release

    made = run_release(root, tag, allow_failing=allow_failing_gate)
    if as_json:
        typer.echo(json.dumps(made.as_dict(), indent=1))
        return
    state = "was there already, and is complete" if made.completed else "is made"
    typer.echo(f"release {tag} {state}: {made.accepted} of {made.images} images accepted, commit {made.commit[:12]}")
    if not made.passed:
        typer.echo("marked: the gate rejects it; the generator is no champion by it")
    typer.echo(f"its files: dvc get . release/files --rev {tag} -o DIR; publish the tag: git push origin {tag}")


def _withdraw(root: Path, center: str, yes: bool, as_json: bool) -> None:
    from flows.withdraw import foresee, withdraw

    for e in foresee(root, center):
        what = f"withdrawn, its model was made with it ({e.in_its_style} in its style)" if e.trained_on else "stays"
        typer.echo(f"{e.tag}: {e.images} images: {what}", err=True)
    if not yes and not (sys.stdin.isatty() and typer.confirm(f"Remove {center} for ever?", err=True)):
        raise UsageError(f"{center} was not withdrawn: nothing has changed; for scripts: --yes")
    done = withdraw(root, center)
    if as_json:
        typer.echo(json.dumps(done.as_dict(), indent=1))
        return
    fallen = ", ".join(e.tag for e in done.effects if e.trained_on)
    typer.echo(f"{center} is withdrawn, commit {done.commit[:12]}; releases withdrawn: {fallen or 'none'}")
    typer.echo("whoever fetched a withdrawn release must be told; then: git push, and fetalflex release TAG")


def verify(
    tag: Tag,
    images: Annotated[
        int, typer.Option(min=-1, metavar="N", help="Make N images again; -1: all, 0: hashes alone.")
    ] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Which images: another seed, others.")] = 0,
    as_json: Json = False,
) -> None:
    """Prove a release on this machine: read every hash again, make images again, name whatever differs.

    Everything is fetched from DVC's remote into an empty clone. On the same kind of device (processor instructions or
    GPU, versions of libraries) images must be equal byte for byte; on another one within a stated tolerance. Exit code
    1 where anything differs.
    """
    from tasks.workspace import find_root

    root = find_root(Path.cwd())
    from flows.release import run_verification

    proof = run_verification(root, tag, None if images < 0 else images, seed)
    if as_json:
        typer.echo(json.dumps(proof.as_dict(), indent=1))
    else:
        _tell(proof)
    if not proof.ok:
        raise typer.Exit(1)


def _tell(proof: "Proof") -> None:
    found: dict[str, Any] = proof.as_dict()
    checked = ", ".join(f"{count} {part}s" for part, count in found["hashes"].items())
    typer.echo(f"checked: {checked or 'nothing'}")
    if proof.remade:
        typer.echo(f"images made again: {found['checked']}, identical: {found['identical']}")
    for name, (there, here) in proof.other_kind.items():
        typer.echo(f"another kind of device: {name} was {there}, is {here} here")
    if proof.other_kind:
        typer.echo(f"so a mean difference of up to {found['tolerance_grey_levels']:g} grey levels is accepted")
    for item in proof.not_checked:
        typer.echo(f"not checked: {item}")
    for d in proof.findings.differences:
        typer.echo(f"differs: {d.part} {d.name}: found {d.found}, expected {d.expected}")
    if proof.withdrawn:
        typer.echo(f"release {proof.tag} is {proof.withdrawn}")
    typer.echo(f"release {proof.tag}: {'proven' if proof.ok else 'NOT proven'}")
