"""The files of a page: scripts, styles and drawings that lie beside it, and nothing else."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response

KINDS = (".js", ".css", ".svg")


def add_page(app: FastAPI, *folders: Path) -> None:
    """Serve the files of folders under /page/NAME. No path is built of what is asked: names are looked up."""
    known = {p.name: p for folder in folders for p in folder.iterdir() if p.suffix in KINDS}

    @app.get("/page/{name}")
    def asset(name: str) -> Response:
        return FileResponse(known[name]) if name in known else Response(status_code=404)
