"""The studio's app: its page, its routes, its errors."""

from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from fetalflex.errors import FetalFlexError
from fetalflex.studio.desk_routes import DeskRoutes
from fetalflex.studio.image_routes import ImageRoutes
from fetalflex.studio.room import COOKIE, Room, SittingId, Studio
from fetalflex.studio.sitting import EndedError
from fetalflex.web.guard import Guard, Rules, TooLargeError
from fetalflex.web.pages import add_page

PAGE = Path(__file__).parent / "page"


def create_app(studio: Studio, rules: Rules) -> tuple[Guard, Callable[[], None]]:
    """Return the app, and what ends its worker."""
    room = Room(studio)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(FetalFlexError)
    def refuse(_: Request, error: FetalFlexError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=410 if isinstance(error, EndedError) else 422)

    @app.exception_handler(TooLargeError)
    def too_large(_: Request, __: TooLargeError) -> JSONResponse:
        return JSONResponse({"error": f"too large: at most {rules.largest >> 20} MiB"}, status_code=413)

    @app.get("/")
    def page(sitting_id: SittingId = None) -> Response:
        answer = FileResponse(PAGE / "index.html")
        answer.set_cookie(COOKIE, room.sittings.open(sitting_id).id, httponly=True, samesite="strict")
        return answer

    add_page(app, PAGE)
    app.include_router(DeskRoutes(room).router)
    app.include_router(ImageRoutes(room).router)
    return Guard(app, rules), room.worker.close
