"""The readers' app. All that it says of an image is its place in the reader's own order and the plane it shall show."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel, Field

from fetalflex.anatomy.ontology import plane, structure
from fetalflex.errors import FetalFlexError
from fetalflex.reader_study.store import Answer, Place, Store, TurnedError, UnknownReaderError
from fetalflex.web.guard import Guard, Rules
from fetalflex.web.pages import add_page

PAGE = Path(__file__).parent / "page"
_LARGEST = 64 * 2**10


class Consent(BaseModel):
    """A reader's consent, and what they say of themselves."""

    role: Annotated[str, Field(max_length=80)] = ""
    years: Annotated[float, Field(ge=0, le=70, allow_inf_nan=False)] | None = None


class Given(BaseModel):
    """An answer as the page sends it."""

    position: Annotated[int, Field(ge=1)]
    verdict: Literal["real", "synthetic"]
    realism: Annotated[int, Field(ge=1, le=5)]
    plane_correct: Literal["yes", "no", "unsure"]
    structures: Annotated[list[Annotated[str, Field(max_length=60)]], Field(max_length=40)] = []
    comment: Annotated[str, Field(max_length=2000)] = ""


class Routes:
    """Answers to the readers' pages."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        """Serve a study."""
        self.store, self.clock = store, clock

    def page(self, token: str) -> Response:
        """The page of a reader."""
        self.store.place(token)
        return FileResponse(PAGE / "index.html", headers={"cache-control": "no-store"})

    def state(self, token: str) -> Any:
        """Where the reader stands; the consent text where it is not given yet."""
        place, about = self.store.place(token), self.store.about()
        return _shown(place) | {"title": about["title"], "consent": None if place.consented else about["consent"]}

    def consent(self, token: str, given: Consent) -> Any:
        """Note the consent."""
        self.store.consent(token, given.role, given.years, datetime.now(UTC).isoformat(timespec="seconds"))
        return _shown(self.store.place(token))

    def image(self, token: str, position: int) -> Response:
        """The reader's next image."""
        return Response(self.store.image(token, position, self.clock()), media_type="image/png")

    def answer(self, token: str, given: Given) -> Any:
        """Save an answer."""
        answer = Answer(
            given.verdict, given.realism, given.plane_correct, tuple(given.structures), given.comment.strip()
        )
        return _shown(self.store.answer(token, given.position, answer, self.clock()))


def create_app(store: Store, rules: Rules, clock: Callable[[], float] = time.time) -> Guard:
    """Return the app of a study."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    routes = Routes(store, clock)

    @app.exception_handler(FetalFlexError)
    def refuse(_: Request, error: FetalFlexError) -> JSONResponse:
        status = 404 if isinstance(error, UnknownReaderError) else 409 if isinstance(error, TurnedError) else 422
        return JSONResponse({"error": str(error)}, status_code=status)

    add_page(app, PAGE)
    app.add_api_route("/r/{token}", routes.page)
    app.add_api_route("/r/{token}/state", routes.state)
    app.add_api_route("/r/{token}/image/{position}", routes.image)
    app.add_api_route("/r/{token}/consent", routes.consent, methods=["POST"])
    app.add_api_route("/r/{token}/answer", routes.answer, methods=["POST"])
    return Guard(app, Rules(rules.token, _LARGEST, ("/r/", "/page/")))


def _shown(place: Place) -> dict[str, Any]:
    known = None if place.plane is None else plane(place.plane)
    return {
        "reader": place.reader, "position": place.position, "total": place.total, "consented": place.consented,
        "plane": None if known is None else known.meaning,
        "structures": [] if known is None else [
            {"name": s, "label": s.replace("-", " ")} for s in known.structures if structure(s).seen_normally
        ],
    }  # fmt: skip
