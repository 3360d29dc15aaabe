"""Answers about images: making one, watching it, the history, exports."""

from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response

from fetalflex.anatomy.layout import to_avoid
from fetalflex.artifacts import encode_png
from fetalflex.diffusion.two_stage import SampleRequest, SampleResult
from fetalflex.errors import UsageError
from fetalflex.studio import view
from fetalflex.studio.export import KINDS, export, media_type
from fetalflex.studio.room import Make, Room, SittingId
from fetalflex.studio.sitting import Sitting
from fetalflex.studio.work import Job
from fetalflex.synthesis.edit import edit_request, paste_edit
from fetalflex.synthesis.models import Model


class ImageRoutes:
    """Routes under /api that make and show images; each of them is its own sitting's alone."""

    def __init__(self, room: Room) -> None:
        """Make the routes of a room."""
        self.room, self.router = room, APIRouter(prefix="/api")
        add = self.router.add_api_route
        add("/jobs", self.make, methods=["POST"])
        add("/jobs/{job_id}", self.job)
        add("/jobs/{job_id}/image", self.job_image)
        add("/jobs/{job_id}/cancel", self.cancel, methods=["POST"])
        add("/results/{result_id}/{what}", self.result)
        add("/results/{result_id}/{way}", self.go_back, methods=["POST"])

    def make(self, asked: Make, sitting_id: SittingId = None) -> Any:
        """Queue an image."""
        sitting = self.room.sittings.find(sitting_id)
        with sitting.lock:
            found = self.room.worker.submit(new_job(sitting, asked, self.room.model))
            sitting.job = found
        return view.job(found, self.room.worker.ahead(found))

    def job(self, job_id: str, sitting_id: SittingId = None) -> Any:
        """How far it is; at its end, what the page shows then."""
        sitting, found = self._own(sitting_id, job_id)
        with sitting.lock:
            ended = {"state_now": self.room.state(sitting)} if found.ended else {}
            return view.job(found, self.room.worker.ahead(found)) | ended

    def job_image(self, job_id: str, sitting_id: SittingId = None) -> Response:
        """What is there of it so far."""
        _, found = self._own(sitting_id, job_id)
        return Response(found.picture, media_type="image/png") if found.picture else Response(status_code=404)

    def cancel(self, job_id: str, sitting_id: SittingId = None) -> Any:
        """Stop it."""
        _, found = self._own(sitting_id, job_id)
        self.room.worker.cancel(found)
        return view.job(found, 0)

    def result(self, result_id: str, what: str, sitting_id: SittingId = None) -> Response:
        """An image of the history, or an export of it."""
        made = self.room.sittings.find(sitting_id).find(result_id)
        kind = next((k for k in KINDS if k == what), None)
        if kind is not None:
            data = export(made, kind, self.room.sha256, self.room.studio.model_name)
            named = {"content-disposition": f'attachment; filename="fetalflex-{made.number:03d}-{kind}"'}
            return Response(data, media_type=media_type(kind), headers=named)
        shown = {"image": made.image, "before": made.before, "change": made.difference(), "coarse": made.result.coarse}
        pixels = shown.get(what)
        return Response(status_code=404) if pixels is None else Response(encode_png(pixels), media_type="image/png")

    def go_back(self, result_id: str, way: Literal["open", "adopt"], sitting_id: SittingId = None) -> Any:
        """Lay the state that an image was made of on the desk, or the image itself."""

        def change(sitting: Sitting) -> None:
            made = sitting.find(result_id)
            sitting.put(made.desk if way == "open" else view.adopted(made))

        return self.room.change(sitting_id, change)

    def _own(self, sitting_id: str | None, job_id: str) -> tuple[Sitting, Job]:
        sitting = self.room.sittings.find(sitting_id)
        if sitting.job is None or sitting.job.id != job_id:
            raise UsageError("this is no image of your sitting")
        return sitting, sitting.job


def new_job(sitting: Sitting, asked: Make, model: Model) -> Job:
    """Return the job that a sitting asks for: the same request that the command line makes of the exported files.

    Raises: UsageError where there is no image to edit, LayoutError where nothing would change.
    """
    desk = sitting.need()
    if asked.kind == "generate":
        request = SampleRequest("000000", desk.asked, avoided=to_avoid(desk.start, desk.asked))

        def finish(result: SampleResult) -> str:
            with sitting.lock:
                made = sitting.keep("generate", desk, asked.seed, (result.image, result))
                # The next step is to edit what was just made, unless the user has an image of their own at hand.
                if sitting.desk is desk and not desk.private:
                    sitting.put(view.adopted(made))
                return made.id

        return Job(sitting.id, request, asked.seed, finish)
    picture, shown = desk.picture, desk.shown
    if picture is None or shown is None:
        raise UsageError("a counterfactual needs an image: open one, take a case, or generate one and keep it")
    request = edit_request(picture, shown, desk.asked, model.generator.size)

    def paste(result: SampleResult) -> str:
        with sitting.lock:
            return sitting.keep("counterfactual", desk, asked.seed, (paste_edit(picture, result)[0], result)).id

    return Job(sitting.id, request, asked.seed, paste)
