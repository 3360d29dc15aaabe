// One image at a time: looking at it, answering, saving. Where the reader stands is the server's to say.

const by = (id) => document.getElementById(id);
const base = location.pathname.replace(/\/$/, "");
const FRESH = { zoom: 1, x: 0, y: 0, window: 256, level: 128 };
const look = { ...FRESH, image: null };

async function call(path, value) {
  const options = value && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(value) };
  const response = await fetch(`${base}/${path}`, options), found = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Error(found.error ?? "The answer could not be saved: try again."), { status: response.status });
  return found;
}

async function tried(work) {
  by("alert").hidden = true;
  try { await work(); } catch (error) {
    by("alert").textContent = error.message;
    by("alert").hidden = false;
    if (error.status === 409) await show(await call("state")); // answered in another tab: go to where the study is
  }
}

function node(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

async function show(state) {
  by("title").textContent = state.title ?? by("title").textContent;
  document.title = by("title").textContent;
  for (const id of ["consent", "reading", "done"]) by(id).hidden = true;
  if (!state.consented) {
    by("consent-text").replaceChildren(...state.consent.split(/\n\s*\n/).map((p) => node("p", {}, p)));
    by("consent").hidden = false;
    return;
  }
  by("far").value = ((state.position ?? state.total + 1) - 1) / state.total;
  by("where").textContent = state.position ? `${state.reader}: image ${state.position} of ${state.total}` : `${state.reader}: all ${state.total} images done`;
  if (!state.position) { by("done").hidden = false; return; }
  by("answer").reset();
  by("answer").dataset.position = state.position;
  by("plane-name").textContent = state.plane;
  by("structure-list").replaceChildren(...state.structures.map((s) => node("label", {}, node("input", { type: "checkbox", name: "structures", value: s.name }), ` ${s.label}`)));
  Object.assign(look, FRESH, { image: null });
  sliders();
  const image = new Image();
  image.src = `${base}/image/${state.position}`;
  await image.decode();
  look.image = image;
  by("reading").hidden = false;
  draw();
  by("send").disabled = false;
  by("reading").dataset.shown = state.position;
  window.scrollTo(0, 0);
}

function draw() {
  const canvas = by("canvas"), context = canvas.getContext("2d", { willReadFrequently: true }), side = canvas.width;
  context.fillStyle = "#000";
  context.fillRect(0, 0, side, side);
  if (!look.image) return;
  const size = side * look.zoom, free = (size - side) / 2;
  look.x = Math.max(-free, Math.min(free, look.x));
  look.y = Math.max(-free, Math.min(free, look.y));
  context.imageSmoothingQuality = "high";
  context.drawImage(look.image, (side - size) / 2 + look.x, (side - size) / 2 + look.y, size, size);
  if (look.window === FRESH.window && look.level === FRESH.level) return;
  const found = context.getImageData(0, 0, side, side), low = look.level - look.window / 2;
  for (let i = 0; i < found.data.length; i += 4) {
    const value = (255 * (found.data[i] - low)) / look.window;
    found.data[i] = found.data[i + 1] = found.data[i + 2] = value;
  }
  context.putImageData(found, 0, 0);
}

const LIMITS = { zoom: [1, 6], window: [16, 400], level: [0, 255] };
function set(values) {
  for (const [key, value] of Object.entries(values)) look[key] = LIMITS[key] ? Math.max(LIMITS[key][0], Math.min(LIMITS[key][1], value)) : value;
  sliders();
  requestAnimationFrame(draw);
}
const sliders = () => Object.keys(LIMITS).forEach((id) => { by(id).value = look[id]; });

function pointers() {
  const view = by("view");
  let drag = null;
  view.addEventListener("contextmenu", (e) => e.preventDefault());
  view.addEventListener("wheel", (e) => { e.preventDefault(); set({ zoom: look.zoom * (e.deltaY < 0 ? 1.15 : 1 / 1.15) }); }, { passive: false });
  view.addEventListener("pointerdown", (e) => { drag = { x: e.clientX, y: e.clientY, right: e.button === 2 }; view.setPointerCapture(e.pointerId); });
  view.addEventListener("pointermove", (e) => {
    if (!drag) return;
    const scale = by("canvas").width / view.clientWidth, dx = e.clientX - drag.x, dy = e.clientY - drag.y;
    set(drag.right ? { window: look.window + dx, level: look.level + dy } : { x: look.x + dx * scale, y: look.y + dy * scale });
    Object.assign(drag, { x: e.clientX, y: e.clientY });
  });
  for (const name of ["pointerup", "pointercancel"]) view.addEventListener(name, () => { drag = null; });
  for (const id of Object.keys(LIMITS)) by(id).addEventListener("input", (e) => set({ [id]: Number(e.target.value) }));
  by("reset").addEventListener("click", () => set(FRESH));
}

const MOVES = { "+": () => set({ zoom: look.zoom * 1.2 }), "=": () => set({ zoom: look.zoom * 1.2 }), "-": () => set({ zoom: look.zoom / 1.2 }), 0: () => set(FRESH),
  w: () => set({ window: look.window - 16 }), W: () => set({ window: look.window + 16 }), l: () => set({ level: look.level + 8 }), L: () => set({ level: look.level - 8 }) };
const SHIFTS = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
const CHOICES = { r: ["verdict", "real"], s: ["verdict", "synthetic"], y: ["plane_correct", "yes"], n: ["plane_correct", "no"], u: ["plane_correct", "unsure"],
  ...Object.fromEntries([1, 2, 3, 4, 5].map((v) => [v, ["realism", String(v)]])) };

function keys(event) {
  if (by("reading").hidden || event.ctrlKey || event.altKey || event.metaKey || event.target.matches("textarea")) return;
  const choice = CHOICES[event.key.toLowerCase()];
  if (choice) {
    document.querySelector(`input[name="${choice[0]}"][value="${choice[1]}"]`).checked = true;
  } else if (event.target === by("view") && SHIFTS[event.key]) {
    event.preventDefault();
    set({ x: look.x + SHIFTS[event.key][0], y: look.y + SHIFTS[event.key][1] });
  } else if (MOVES[event.key] && !event.target.matches("input[type=range]")) MOVES[event.key]();
  else if (event.key === "Enter" && !event.target.matches("button")) { event.preventDefault(); by("answer").requestSubmit(); }
}

async function submit(event) {
  event.preventDefault();
  if (by("send").disabled) return;
  by("send").disabled = true;
  const form = new FormData(by("answer"));
  await tried(async () => show(await call("answer", {
    position: Number(by("answer").dataset.position), verdict: form.get("verdict"), realism: Number(form.get("realism")),
    plane_correct: form.get("plane_correct"), structures: form.getAll("structures"), comment: by("comment").value,
  })));
  by("send").disabled = false;
}

pointers();
document.addEventListener("keydown", keys);
by("answer").addEventListener("submit", submit);
by("consent-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const years = by("years").value;
  tried(async () => show(await call("consent", { role: by("role").value, years: years === "" ? null : Number(years) })));
});
tried(async () => { await show(await call("state")); document.documentElement.dataset.ready = "true"; });
