"""How fast the studio answers: page, drag, coarse and fine image, twenty users. In a real browser (Chromium).

    python -m benchmarks.pages --model DIR      a pipeline's folder, or the models/ of a workspace
    python -m benchmarks.pages --untrained      the demo's networks with random weights: all that time depends on

Untrained images never agree with their layouts, so every one takes the whole budget: the slowest case.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as 'fetalflex studio' sets it

import httpx
import uvicorn
from playwright.sync_api import Page, sync_playwright

from fetalflex.anatomy.layout import Layout, LayoutObject
from fetalflex.anatomy.ontology import PLANE_NAMES, STRUCTURE_NAMES
from fetalflex.anatomy.shapes import Ellipse
from fetalflex.params import preset_text, read_params
from fetalflex.studio.api import create_app
from fetalflex.studio.room import Studio
from fetalflex.synthesis.models import Model, open_model
from fetalflex.web.guard import Rules
from fetalflex.web.serve import bind

USERS = 20
LAYOUT = Layout(
    "transventricular", "mm", 100.0,
    (
        LayoutObject.of("head", Ellipse((50, 50), (34, 27), 8)),
        LayoutObject.of("csp", Ellipse((66, 52), (4, 2.5), 8)),
        LayoutObject.of("lateral-ventricle", Ellipse((36, 42), (9, 3.7), 20)),
    ),
    None, 22.0,
)  # fmt: skip
# In the page: move the pointer, wait for the frame that shows it, note the milliseconds.
_DRAG = """async () => {
  const stage = document.getElementById('stage'), group = stage.querySelector(".object[data-index='2']");
  const box = group.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2, took = [];
  const send = (name, dx) => (name === 'pointerdown' ? group.firstChild : stage).dispatchEvent(new PointerEvent(name,
    { clientX: x + dx, clientY: y, button: 0, buttons: 1, pointerId: 1, bubbles: true, cancelable: true }));
  stage.setPointerCapture = () => {};
  send('pointerdown', 0);
  for (let k = 1; k <= 60; k++) {
    const began = performance.now();
    send('pointermove', k / 2);
    await new Promise((done) => requestAnimationFrame(() => {
      const after = new MessageChannel();
      after.port1.onmessage = done;
      after.port2.postMessage(0);
    }));
    took.push(performance.now() - began);
    await new Promise((done) => setTimeout(done, 16));
  }
  send('pointerup', 30);
  return took;
}"""


def untrained(folder: Path) -> Model:
    """Return the demo's networks with random weights."""
    from fetalflex.masks.segmenter import Segmenter
    from fetalflex.model.denoiser import build_denoiser
    from fetalflex.model.generator import Generator
    from fetalflex.model.layout_encoder import LayoutEncoder

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(preset_text("demo"))
    params = read_params(folder / "params.yaml")
    known = (len(STRUCTURE_NAMES), len(PLANE_NAMES), 1)
    encoder = LayoutEncoder(known, width=params.prealign.embedding, hidden=params.prealign.hidden)
    denoiser = build_denoiser(params.train, encoder, params.data.image_size).eval()
    guide = Segmenter(params.masks.channels, ("head", "csp", "lateral-ventricle"), "guide").eval()
    return Model(Generator(denoiser, ("not-stated",), params.data.image_size, ""), guide, None, params.sample, {})


def timed_job(client: httpx.Client, kind: str, seed: int) -> dict[str, float]:
    """Return seconds from the click until the coarse image is whole, and until the fine one is."""
    began, coarse = time.perf_counter(), None
    job = client.post("/api/jobs", json={"kind": kind, "seed": seed}).json()
    while True:
        found = client.get(f"/api/jobs/{job['id']}").json()
        now = time.perf_counter() - began
        if coarse is None and (found["stage"] == "fine" or found["done"] == found["most"] > 0):
            coarse = now
        if found["state"] == "done":
            return {"coarse_s": coarse or now, "fine_s": now}
        if found["state"] in ("failed", "cancelled"):
            raise RuntimeError(found["error"])
        time.sleep(0.05)


def user(address: str) -> httpx.Client:
    """Return a user before whom the layout lies."""
    client = httpx.Client(base_url=address, timeout=600)
    client.get("/")
    client.post("/api/upload?what=layout", content=LAYOUT.to_json()).raise_for_status()
    return client


def measure_images(address: str, repeats: int) -> dict[str, Any]:
    """Return wall seconds of images one at a time, and the process' own processor seconds."""
    client, runs = user(address), []
    timed_job(client, "generate", 0)
    began = time.process_time()
    runs = [timed_job(client, "generate", k) for k in range(1, repeats + 1)]
    spent = (time.process_time() - began) / repeats
    return {k: [round(r[k], 2) for r in runs] for k in ("coarse_s", "fine_s")} | {"processor_s": round(spent, 2)}


def measure_crowd(address: str) -> dict[str, Any]:
    """Return what twenty users see who click at once."""
    clients, before = [user(address) for _ in range(USERS)], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    jobs = [c.post("/api/jobs", json={"kind": "generate", "seed": k}).json()["id"] for k, c in enumerate(clients)]
    order, images, began = list[int](), list[bytes](), time.perf_counter()
    while len(order) < USERS:
        for number, (client, job) in enumerate(zip(clients, jobs, strict=True)):
            if number not in order and client.get(f"/api/jobs/{job}").json()["state"] == "done":
                order.append(number)
        time.sleep(0.05)
    took = time.perf_counter() - began
    for client in clients:
        (only,) = client.get("/api/state").json()["results"]
        images.append(client.get(f"/api/results/{only['id']}/image").content)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "in_order": order == sorted(order), "different_images": len(set(images)), "seconds": round(took, 1),
        "memory_grown_mib": round(grown / 1024, 1),
    }  # fmt: skip


def measure_page(page: Page, address: str, layout: Path) -> dict[str, Any]:
    """Return seconds until the page can be used (five loads), and milliseconds of a drag's frames."""
    loads = []
    for _ in range(5):
        began = time.perf_counter()
        page.goto(address)
        page.wait_for_selector("html[data-ready=true]")
        loads.append(round(time.perf_counter() - began, 2))
    page.set_input_files("#layout-file", layout)
    page.wait_for_selector("#stage .object[data-index='2']")
    frames = sorted(page.evaluate(_DRAG))
    figures = {"median": statistics.median(frames), "p95": frames[int(0.95 * len(frames))], "worst": frames[-1]}
    return {"usable_s": loads, "drag_ms": {k: round(v, 1) for k, v in figures.items()}}


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--model", type=Path)
    chosen.add_argument("--untrained", action="store_true")
    parser.add_argument("--work", type=Path, default=Path(".work/pages"))
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    model = untrained(asked.work) if asked.untrained else open_model(asked.model)
    (asked.work / "layout.json").write_text(LAYOUT.to_json())
    app, close = create_app(Studio(model, lambda *_: (LAYOUT, "fixed"), ("transventricular",)), Rules())
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    found: dict[str, Any] = {"load": os.getloadavg()[0], "images": measure_images(address, asked.repeats)}
    found["crowd"] = measure_crowd(address)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        found["page"] = measure_page(
            browser.new_page(viewport={"width": 1440, "height": 900}), address, asked.work / "layout.json"
        )
        browser.close()
    close()
    server.should_exit = True
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
