"""A studio over the tiny model, and clients of it, that the tests of the studio share."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.testclient import TestClient

from fetalflex.anatomy.layout import Layout, LayoutObject
from fetalflex.anatomy.shapes import Ellipse
from fetalflex.studio.api import create_app
from fetalflex.studio.room import Studio
from fetalflex.synthesis.requests import drawn_from_shapes
from fetalflex.web.guard import Guard, Rules
from tests.fetalflex.synthesis import made


def head(width: float = 7.4, unit: str = "mm") -> Layout:
    """A head of 22 weeks on 100 mm, with a cavum and a ventricle of that width."""
    scale = 1.0 if unit == "mm" else 0.01

    def oval(name: str, x: float, y: float, a: float, b: float, angle: float) -> LayoutObject:
        return LayoutObject.of(name, Ellipse((x * scale, y * scale), (a * scale, b * scale), angle))

    objects = (
        oval("head", 50, 50, 34, 27, 8), oval("csp", 66, 52, 4, 2.5, 8),
        oval("lateral-ventricle", 36, 42, 9, width / 2, 20),
    )  # fmt: skip
    return Layout("transventricular", unit, 100 * scale, objects, "near", 22.0)  # type: ignore[arg-type]


def studio(**changes: Any) -> Studio:
    model = made.model()
    values = {"model": model, "draw": drawn_from_shapes(model.shapes), "planes": tuple(model.shapes)}
    return Studio(**(values | changes))


@contextmanager
def running(rules: Rules | None = None, **changes: Any) -> Iterator[Guard]:
    app, close = create_app(studio(**changes), rules or Rules())
    try:
        yield app
    finally:
        close()


def visit(app: Guard) -> TestClient:
    """Return a user with a sitting of their own."""
    client = TestClient(app, base_url="http://127.0.0.1")
    assert client.get("/").status_code == 200
    return client


def opened(app: Guard, layout: Layout | None = None) -> TestClient:
    """Return a user before whom a layout lies."""
    client = visit(app)
    text = (layout or head()).to_json()
    assert client.post("/api/upload?what=layout", content=text).status_code == 200
    return client


def made_image(client: TestClient, kind: str = "generate", seed: int = 3) -> dict[str, Any]:
    """Make an image and return its job's end."""
    asked = client.post("/api/jobs", json={"kind": kind, "seed": seed})
    assert asked.status_code == 200, asked.text
    return ended(client, asked.json()["id"])


def ended(client: TestClient, job_id: str) -> dict[str, Any]:
    while True:
        found: dict[str, Any] = client.get(f"/api/jobs/{job_id}").json()
        if found["state"] in ("done", "failed", "cancelled"):
            return found
        time.sleep(0.01)


def desk(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/api/state").json()["desk"]
    return found


def layout_of(client: TestClient, result_id: str) -> Layout:
    return Layout.from_json(json.dumps(client.get(f"/api/results/{result_id}/layout.json").json()))
