"""Commands of the reader study: new, serve, results."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from fetalflex.errors import UsageError
from flows.commands.studio import Host, Port, page_address

app = typer.Typer(
    no_args_is_help=True,
    help="Ask people which images are real: make a study, serve it to its readers, read its results.",
)
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The study's folder.")]


@app.command()
def new(
    folder: Folder,
    images: Annotated[int, typer.Option(min=4, help="Different images, half of them real.")] = 60,
    repeats: Annotated[int, typer.Option(min=0, help="How many of them are shown twice.")] = 10,
    readers: Annotated[int, typer.Option(min=1, max=99, help="How many readers, each with a link.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same images in the same orders.")] = 0,
    title: Annotated[str, typer.Option(help="What readers see above the images.")] = "Fetal ultrasound reader study",
    consent: Annotated[Path | None, typer.Option(metavar="FILE", help="Your own consent text.")] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="Patients whose real images are shown: test, judge or train.")
    ] = None,
    address: Annotated[str, typer.Option(help="Where readers will reach it.")] = "http://127.0.0.1:8601",
) -> None:
    """Draw a study from the workspace: real images of held-out patients and the synthetic images of the release.

    As many real as synthetic in every plane and center; each reader has an order of their own. The readers' links are
    written to `links.txt`, once: of their tokens the study keeps only hashes.
    """
    from fetalflex.reader_study.draw import Design
    from fetalflex.reader_study.study import CONSENT, new_study, write_links
    from tasks.reader_study import candidates
    from tasks.workspace import find_root

    groups = tuple(group or ("test",))
    if not set(groups) <= {"train", "judge", "test"}:
        raise UsageError(f"--group {' '.join(groups)}; expected test, judge or train")
    text = CONSENT if consent is None else _read_text(consent)
    design = Design(images, repeats, readers, seed)
    tokens = new_study(folder, candidates(find_root(Path.cwd()), groups), design, title, text)
    links = write_links(folder, tokens, address)
    typer.echo(f"{folder}: {images} images, {readers} readers; their links: {links}\nNext: reader-study serve {folder}")


@app.command()
def serve(
    folder: Folder,
    port: Port = 8601,
    host: Host = "127.0.0.1",
) -> None:
    """Serve a study to its readers until Ctrl-C. Every answer is on the disk before the next image is shown.

    Each link holds its reader's token; without one nothing is answered, so another address than loopback may be named.
    """
    from fetalflex.reader_study.api import create_app
    from fetalflex.reader_study.store import Store
    from fetalflex.web.guard import Rules
    from fetalflex.web.serve import bind, is_loopback
    from fetalflex.web.serve import serve as serve_app

    store = Store(folder)
    # Only the readers' own links are answered; what lies beside them needs a token that nobody has.
    rules = Rules(None if is_loopback(host) else secrets.token_urlsafe(32))
    listener = bind(host, port)
    where = page_address(host, listener.getsockname()[1], None)

    def ready() -> None:
        done = ", ".join(f"{name} {answers} of {total}" for name, answers, total in store.readers())
        typer.echo(f"reader study: {where}r/TOKEN (links.txt); {done}\nCtrl-C ends it; readers can come back later.")

    serve_app(create_app(store, rules), listener, ready)


@app.command()
def results(
    folder: Folder,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The page; else results.html beside it.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the answers as CSV, too.")] = None,
) -> None:
    """Write the results page: accuracy, ROC, realism, agreement, power; also while readers are still at work."""
    from fetalflex.artifacts import atomic
    from fetalflex.reader_study.results import Study, render, to_csv
    from fetalflex.reader_study.store import Store

    store = Store(folder)
    about, rows = store.about(), store.rows()
    design = about["design"]
    study = Study(about["title"], design["images"], design["repeats"], design["seed"], store.readers())
    target = out or folder / "results.html"
    with atomic(target) as partial:
        partial.write_text(render(study, rows), encoding="utf-8")
    if csv is not None:
        with atomic(csv) as partial:
            partial.write_text(to_csv(rows), encoding="utf-8")
    typer.echo(f"{target}: {len(rows)} answers" + (f"; {csv}" if csv else ""))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); expected the consent as text") from error
