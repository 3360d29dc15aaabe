"""The command line `fetalflex`. Heavy imports happen inside the commands, so that --help answers at once."""

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fetalflex.errors import FetalFlexError, SourceError, UsageError, WorkspaceError
from flows.commands import history, reader_study, release, scheduling, studio, synthesis

app = typer.Typer(
    name="fetalflex",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Turn fetal ultrasound from several centers into a versioned, gated, reproducible synthetic dataset.\n\n"
    "The commands work on the workspace they stand in: a folder with params.yaml and dvc.yaml, made by "
    "`fetalflex init DIR` (or the software's own checkout, which holds the demo).",
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output instead of text.")]


@app.command()
def run(
    start: Annotated[
        str, typer.Option("--from", metavar="STAGE", help="Run this stage and all that follows from it, stale or not.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Bring the whole dataset up to date: every stale stage runs, the others are `Cached`.

    Draws the embedded phantoms where they are missing, walks DVC's graph as Prefect task runs, tracks in MLflow,
    and ends with the gate's verdict and the report's path. A run that was cut off goes on from its last finished
    chunk or checkpoint. Exit code 1 where a stage failed; a rejecting gate is a verdict, not a failure.
    """
    from tasks.workspace import check_ready, find_root, load_params

    root = find_root(Path.cwd())
    check_ready(root)  # a wrong parameter is said at once, not after seconds of imports
    load_params(root)
    from flows.run import run_workspace

    summary = run_workspace(root, start)
    if as_json:
        _print_json(
            {
                "ok": summary.ok,
                "stages": [o.as_dict() for o in summary.stages],
                "overhead_s": summary.overhead,
                "gate": summary.gate and {k: summary.gate[k] for k in ("passed", "criteria")},
                "report": str(summary.report) if summary.report else None,
            }
        )
    else:
        _print_summary(summary)
    if not summary.ok:
        raise typer.Exit(1)


def _print_summary(summary: Any) -> None:
    failed = [o for o in summary.stages if o.state == "Failed"]
    for outcome in failed:
        typer.echo(f"failed: {outcome.name}: {outcome.message}", err=True)
    if summary.gate is not None:
        missed = [c["metric"] for c in summary.gate["criteria"] if not c["passed"]]
        typer.echo("gate: accepted" if summary.gate["passed"] else f"gate: rejected ({', '.join(missed)})")
    if summary.report is not None:
        typer.echo(f"report: {summary.report}")


@app.command()
def status(as_json: Json = False) -> None:
    """Say what is stale and why, without running or writing anything."""
    from tasks.staleness import find_stale
    from tasks.workspace import find_root

    found = find_stale(find_root(Path.cwd()))
    if as_json:
        _print_json({"clean": not any(found.values()), "stages": found})
        return
    for stage, reasons in found.items():
        typer.echo(f"{stage:<28} {'up to date' if not reasons else 'stale: ' + '; '.join(reasons)}")


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="The new workspace's folder; it must not exist, or be empty.")],
    preset: Annotated[str, typer.Option(help="Values to start from: demo, tiny, cpu64, small, base or sd.")] = "demo",
    remote: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where releases keep their data; else the folder DIR.remote.")
    ] = "",
) -> None:
    """Make a dataset's own workspace: git, DVC with a remote, dvc.yaml, params.yaml, centers/."""
    from tasks.workspace import create_workspace

    create_workspace(directory, preset, remote)
    typer.echo(f"workspace {directory} is ready. Next: cd {directory} && fetalflex run")


@app.command()
def params(
    preset: Annotated[str, typer.Option(help="To resolve into params.yaml: demo, tiny, cpu64, small, base or sd.")],
) -> None:
    """Write a preset's values into params.yaml (and the profiles of embedded centers that it names)."""
    from tasks.workspace import find_root, write_preset

    write_preset(find_root(Path.cwd()), preset)
    typer.echo(f"params.yaml holds the preset {preset}")


@app.command("import")
def import_(
    name: Annotated[
        str,
        typer.Argument(
            metavar="SET",
            help="hc18, barcelona-transventricular, barcelona-planes, african-planes or abnormal-brain.",
        ),
    ],
    source: Annotated[Path, typer.Argument(help="The folder of the set, as its publisher laid it out.")],
    center: Annotated[str, typer.Option(help="The center's name. african-planes makes one center per country.")],
    country: Annotated[str | None, typer.Option(help="african-planes only: one country instead of all four.")] = None,
) -> None:
    """Wrap a public set in DICOM, as a hospital would send it, into incoming/CENTER, and list it in params.yaml."""
    from tasks.importing import import_center
    from tasks.workspace import find_root

    for made in import_center(find_root(Path.cwd()), name, source, center, country):
        typer.echo(f"center {made.name}: {made.files} files in incoming/{made.name}, listed in params.yaml")


@app.command()
def onboard(
    center: Annotated[str, typer.Argument(help="The center's name: lower-case letters, digits and '-'.")],
    source: Annotated[
        str, typer.Option("--from", help="A folder tree, an archive (zip, tar), or a DICOMweb server's address.")
    ],
    query: Annotated[
        str, typer.Option(help="What is asked of a server: modality=US date=2025-01-01.. description=brain.")
    ] = "",
    approve: Annotated[str, typer.Option(metavar="NAME", help="For scripts: approve in NAME's name, unasked.")] = "",
    refuse: Annotated[bool, typer.Option("--refuse", help="For scripts: do everything, then refuse.")] = False,
    profile: Annotated[str, typer.Option(metavar="FILE", help="Take this profile instead of drafting one.")] = "",
    trial: Annotated[int, typer.Option(metavar="N", help="How many cases are de-identified for the page.")] = 12,
    role: Annotated[str, typer.Option(help="normal, or test_only: read by no training stage.")] = "normal",
    pace: Annotated[str, typer.Option(help="How fast a server is asked, per second: requests=20 megabytes=5.")] = "",
    as_json: Json = False,
) -> None:
    """Bring a center's DICOM in: look at it first, approve, and only then it is part of the dataset.

    Fetches the files, reads every header in a sandbox, drafts `centers/CENTER.yaml`, de-identifies some cases, and
    makes a private page with all of that. Then it asks. While it waits, look at the page and edit the drafted profile.

    **yes**: files, profile, manifest and `params.yaml` take the center in; who approved, when and what is recorded in
    `centers/CENTER.approval.json`. **no**: nothing has changed, and what was fetched is removed. The page shows
    identifiers: only you can read it, and it is deleted either way. **Ctrl-C** or a kill changes nothing; the same
    command goes on from what was fetched. More data of a center later: the same command; only what is new is read.

    Real centers need a pseudonym key (`.fetalflex/key`). Exit codes: 0 approved, or nothing new; 3 refused; 2 the
    command cannot be carried out as given; 1 any other error; 130 interrupted.
    """
    from tasks.approval import Decision, check_name
    from tasks.onboard import Request
    from tasks.workspace import check_ready, find_root

    if approve and refuse:
        raise UsageError("--approve and --refuse exclude each other")
    decision = Decision(approved=True, name=check_name(approve)) if approve else None
    root = find_root(Path.cwd())
    check_ready(root)
    from flows.onboard import run_onboarding

    request = Request(center, source, query, profile, trial, role, pace)
    result = run_onboarding(root, request, Decision(approved=False) if refuse else decision)
    if as_json:
        _print_json({"outcome": result.outcome, **(result.summary or {})})
    else:
        _print_outcome(center, str(result.outcome), (result.summary or {}).get("new_files", 0))
    if result.outcome == "refused":
        raise typer.Exit(3)


def _print_outcome(center: str, outcome: str, new: int) -> None:
    said = {
        "approved": f"{center} is approved: {new} new files in incoming/{center}, profile in centers/{center}.yaml, "
        f"listed in params.yaml. Next: git add centers incoming params.yaml && git commit, then fetalflex run",
        "refused": f"{center} is refused: nothing has changed, and what was fetched for it is removed",
        "nothing new": f"{center}: nothing new at the source, so there is nothing to decide",
    }
    typer.echo(said[outcome])


@app.command()
def deidentify(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A folder of DICOM files, or one file.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder, or that of a run that was cut off.")],
    profile: Annotated[
        Path | None, typer.Option(help="A center's profile: its de-identification options and its words for planes.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write what was done, as JSON without any value.")] = None,
) -> None:
    """De-identify DICOM by PS3.15 Annex E, header and pixels: DICOM in, valid DICOM out.

    Images, segmentations and structured reports keep referring to one another. Names of outputs are keyed. What cannot
    be used is left out, with a reason. Needs the pseudonym key. Exit code 1 where nothing could be written.
    """
    from fetalflex.artifacts import write_json
    from fetalflex.deid.folder import deidentify_folder, read_outcomes, summarize
    from fetalflex.deid.keys import read_key
    from fetalflex.params import Deidentify, read_center

    center = read_center(profile) if profile else None
    options, words = (center.deidentify, tuple(center.planes)) if center else (Deidentify(), ())
    name = profile.stem if profile else "deidentify"
    key = read_key(_workspace_or_here())
    for progress in deidentify_folder(source, target, options, name, key, words):
        if sys.stderr.isatty():
            typer.echo(f"\r{progress.done} of {progress.total} files", err=True, nl=progress.done == progress.total)
    summary = summarize(read_outcomes(target))
    if report is not None:
        write_json(report, summary)
    for outcome, count in summary["outcomes"].items():
        typer.echo(f"{count:>7} {outcome}")
    if not summary["outcomes"].get("written"):
        raise SourceError(f"none of the files in {source} could be used; the reasons stand above and in the report")


def _workspace_or_here() -> Path:
    """Return the workspace that we stand in, or the current folder: the key may lie in either's .fetalflex."""
    from tasks.workspace import find_root

    try:
        return find_root(Path.cwd())
    except WorkspaceError:
        return Path.cwd()


@app.command()
def ui(
    open_pages: Annotated[bool, typer.Option("--open/--no-open", help="Open the pages in a browser.")] = True,
) -> None:
    """Serve Prefect's and MLflow's pages of this workspace until Ctrl-C, and say their addresses."""
    from tasks.pages import serve_pages
    from tasks.workspace import find_root

    serve_pages(find_root(Path.cwd()), open_pages=open_pages)


app.command()(synthesis.generate)
app.command()(synthesis.edit)
app.command("export-model")(synthesis.export_model)
app.command()(release.release)
app.command()(release.verify)
app.command()(history.diff)
app.command()(history.backfill)
app.command()(scheduling.serve)
app.command()(scheduling.regenerate)
app.command()(studio.studio)
app.add_typer(reader_study.app, name="reader-study")


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1))


def main() -> None:
    """Run the command line; expected errors are one line on standard error and exit code 1 or 2."""
    logging.raiseExceptions = False  # of log lines that a lost server did not take, Prefect writes after our own line
    try:
        app()
    except FetalFlexError as error:
        kind = "usage" if isinstance(error, UsageError) else "error"
        print(f"fetalflex: {kind}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("fetalflex: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
