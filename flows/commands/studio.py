"""The command that serves the studio."""

import os
import webbrowser
from typing import Annotated

import typer

from flows.commands.synthesis import ModelFolder

Port = Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")]
Host = Annotated[str, typer.Option(help="Another address than loopback needs --token.")]
Token = Annotated[
    str | None,
    typer.Option(envvar="FETALFLEX_TOKEN", metavar="TEXT", help="Who asks must know it; better in FETALFLEX_TOKEN."),
]
Open = Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")]


def studio(
    model: ModelFolder = None,
    port: Port = 8600,
    host: Host = "127.0.0.1",
    token: Token = None,
    open_page: Open = True,
) -> None:
    """Serve the studio: a page where anatomy is edited and the image follows.

    Start from a sampled layout, an image of your own (its plane and layout are read) or a case of the workspace; move,
    resize, paint; choose an anomaly and its severity; make the image, or the same image with the anomaly. Measurements
    in mm stand beside their normal ranges. Several people can work at once: images are made one after the other.

    DICOM is read in a sandbox. What is opened stays in memory and goes when the sitting ends. Ctrl-C ends the studio.
    """
    from fetalflex.web.serve import bind, check_address

    token = check_address(host, token)
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch: an image by itself is made fastest, and equal, on one thread
    from flows.commands.synthesis import drawn_from, open_any

    root, opened = open_any(model)
    from fetalflex.studio.api import create_app
    from fetalflex.studio.room import Studio
    from fetalflex.web.guard import Rules
    from fetalflex.web.serve import serve
    from tasks.studio import WorkspaceCases

    cases = None if root is None else WorkspaceCases(root)
    planes = tuple(opened.shapes) if cases is None else cases.planes()
    found = Studio(opened, drawn_from(root, opened, None), planes, cases, None if model is None else str(model))
    app, close = create_app(found, Rules(token))
    listener = bind(host, port)
    address = page_address(host, listener.getsockname()[1], token)

    def ready() -> None:
        typer.echo(f"studio: {address}\nCtrl-C ends it.")
        if open_page:
            webbrowser.open(address)

    try:
        serve(app, listener, ready)
    finally:
        close()


def page_address(host: str, port: int, token: str | None) -> str:
    """Return the address of a page, with the token that opens it."""
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
