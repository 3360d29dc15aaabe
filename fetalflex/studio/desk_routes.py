"""Answers about the desk: starting, editing the layout, measuring, undo and redo."""

from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from fetalflex.artifacts import encode_png
from fetalflex.errors import UsageError
from fetalflex.studio import desk as desks
from fetalflex.studio import starts, view
from fetalflex.studio.desk import Desk
from fetalflex.studio.measurements import measurements, scale_of
from fetalflex.studio.room import COOKIE, Edit, Room, SittingId, Start
from fetalflex.synthesis.models import Model


class DeskRoutes:
    """Routes under /api that change or show a desk."""

    def __init__(self, room: Room) -> None:
        """Make the routes of a room."""
        self.room, self.router = room, APIRouter(prefix="/api")
        add = self.router.add_api_route
        add("/state", self.state)
        add("/desk/image", self.image)
        for path, answer in (
            ("/start", self.start), ("/upload", self.upload), ("/edit", self.edit), ("/measure", self.measure),
            ("/undo", self.undo), ("/redo", self.redo), ("/end", self.end),
        ):  # fmt: skip
            add(path, answer, methods=["POST"])

    def state(self, sitting_id: SittingId = None) -> Any:
        """All that the page shows, and what can be chosen."""
        studio = self.room.studio
        found = {"choices": view.choices(studio.model, studio.planes, studio.cases)}
        return found | self.room.change(sitting_id, lambda _: None)

    def image(self, sitting_id: SittingId = None) -> Response:
        """The image on the desk."""
        picture = self.room.sittings.find(sitting_id).need().picture
        return Response(status_code=404) if picture is None else _png(picture.pixels)

    def start(self, asked: Start, sitting_id: SittingId = None) -> Any:
        """Begin with a sampled layout, or a case of the dataset."""
        studio, wish = self.room.studio, starts.Wish(asked.plane, asked.center, asked.age_weeks)
        starts.check_wish(wish, studio.model)
        if asked.case is None:
            found = starts.sampled(studio.draw, wish, asked.seed)
        elif studio.cases is None:
            raise UsageError("there is no dataset here: the studio was started with --model")
        else:
            found = starts.from_case(studio.cases, asked.case, wish)
        return self.room.change(sitting_id, lambda s: s.put(found))

    async def upload(
        self,
        request: Request,
        what: Literal["image", "layout"],
        plane: str | None = None,
        center: str | None = None,
        age_weeks: float | None = None,
        sitting_id: SittingId = None,
    ) -> Any:
        """Begin with what is sent: an image or a layout."""
        self.room.sittings.find(sitting_id)
        data, wish = await request.body(), starts.Wish(plane or None, center or None, age_weeks)
        starts.check_wish(wish, self.room.model)
        if what == "layout":
            found = await run_in_threadpool(starts.uploaded_layout, data, self.room.model)
        else:
            found = await run_in_threadpool(starts.uploaded, self.room.model, data, wish)
        return self.room.change(sitting_id, lambda s: s.put(found))

    def edit(self, asked: Edit, sitting_id: SittingId = None) -> Any:
        """Change the layout."""
        return self.room.change(
            sitting_id, lambda s: s.put(changed(s.need(), asked, self.room.model), merge=asked.merge)
        )

    def measure(self, asked: Edit, sitting_id: SittingId = None) -> Any:
        """Measure what the layout would be after a change; a drag asks this while it is under way."""
        found = self.room.sittings.find(sitting_id).need()
        layout = changed(found, asked, self.room.model).asked
        return {"measurements": [view.as_json(m) for m in measurements(layout, scale_of(found.start))]}

    def undo(self, sitting_id: SittingId = None) -> Any:
        """One step back."""
        return self.room.change(sitting_id, lambda s: s.undo())

    def redo(self, sitting_id: SittingId = None) -> Any:
        """The same step again."""
        return self.room.change(sitting_id, lambda s: s.redo())

    def end(self, sitting_id: SittingId = None) -> Response:
        """Forget all of this sitting."""
        self.room.sittings.end(self.room.sittings.find(sitting_id).id)
        answer = JSONResponse({"ended": True})
        answer.delete_cookie(COOKIE)
        return answer


def changed(desk: Desk, asked: Edit, model: Model) -> Desk:
    """Return the desk after one change. Raises: LayoutError, UsageError."""
    layout = desk.asked
    if asked.op == "transform":
        return desk.with_layout(desks.transform(layout, asked.index, asked.matrix))
    if asked.op == "delete":
        return desk.with_layout(desks.remove(layout, asked.index, absent=asked.absent))
    if asked.op == "add":
        return desk.with_layout(desks.add(layout, asked.structure))
    if asked.op == "paint":
        return desk.with_layout(desks.paint(layout, asked.index, asked.points, asked.radius, erase=asked.erase))
    if asked.op == "anomalies":
        return desk.with_anomalies(asked.anomalies)
    starts.check_wish(starts.Wish(None, asked.center, asked.age_weeks), model)
    return desk.stated(center=asked.center, age_weeks=asked.age_weeks)


def _png(pixels: Any) -> Response:
    return Response(encode_png(pixels), media_type="image/png")
