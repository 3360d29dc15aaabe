"""Commands over older releases: diff, backfill."""

import json
from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output instead of text.")]


def diff(
    before: Annotated[str, typer.Argument(metavar="TAG1", help="The older release.")],
    after: Annotated[str, typer.Argument(metavar="TAG2", help="The newer one.")],
    as_json: Json = False,
) -> None:
    """Hold two releases against one another: parameters, counts, figures with intervals; sheets side by side on a page.

    Figures are `apart` where their 95 % intervals do not overlap, else no difference is shown. Distances whose features
    another encoder made are not comparable.
    """
    from tasks.releasing.compare import diff_releases
    from tasks.workspace import find_root

    found, page = diff_releases(find_root(Path.cwd()), before, after)
    if as_json:
        typer.echo(json.dumps(found.as_dict() | {"page": str(page)}, indent=1))
        return
    from fetalflex.release.diff_page import figure, value

    for name, (a, b) in found.params.items():
        typer.echo(f"parameter {name}: {value(a)}, then {value(b)}")
    for name, (old, new) in found.counts.items():
        if old != new:
            typer.echo(f"{name}: {old}, then {new}")
    for row in found.figures:
        typer.echo(f"{row.name}: {figure(row.before)}, then {figure(row.after)}: {row.verdict}")
    typer.echo(f"page: {page}")


def backfill(
    tags: Annotated[list[str] | None, typer.Argument(metavar="[TAG]...", help="Releases; else all.")] = None,
    as_json: Json = False,
) -> None:
    """Judge older releases by the present gate of params.yaml. Nothing is scored again, and no release is changed."""
    from tasks.releasing.compare import backfill as judge
    from tasks.workspace import find_root

    found = judge(find_root(Path.cwd()), tags or [])
    if as_json:
        typer.echo(json.dumps([item.as_dict() for item in found], indent=1))
        return
    for item in found:
        then, now = ("accepted" if passed else "rejected" for passed in (item.then, item.now))
        why = f" ({', '.join(item.missed)})" if item.missed else ""
        images = f"{item.accepted_then}, then {item.accepted_now} of {item.total} images"
        typer.echo(f"{item.tag}: was {then}, by the present gate {now}{why}; {images}")
    if not found:
        typer.echo("there is no release yet")
