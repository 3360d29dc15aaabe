// Ties the page together: what is clicked becomes a call, what is answered is shown.

import { get, post, send, text } from "./http.js";
import { begin, cancel, follow, picture, share, words } from "./making.js";
import { node, showAnomalies, showHistory, showMeasurements, showStructures } from "./panels.js";
import { Stage } from "./stage.js";

const by = (id) => document.getElementById(id);
const page = { state: null, result: null, view: "edit", job: null, revision: 0, busy: false };

const stage = new Stage(by("stage"), {
  moving: (index, matrix) => measure({ op: "transform", index, matrix }),
  move: (index, matrix, merge) => edit({ op: "transform", index, matrix, merge }),
  remove: (index) => edit({ op: "delete", index }),
  paint: (index, points, radius, erase) => edit({ op: "paint", index, points, radius, erase }),
  choose: () => { if (page.state?.desk) structures(); },
});

// What goes wrong is a sentence on the page, whatever went wrong.
async function tried(work) {
  by("alert").hidden = true;
  try {
    return await work();
  } catch (error) {
    by("alert").textContent = error.message;
    by("alert").hidden = false;
    stage.drop();
    return null;
  }
}

// Changes go one after the other; while one is under way, only the last of the same slider waits.
let queue = Promise.resolve(), waiting = null;
function edit(change) {
  if (change.op === "anomalies" && waiting?.op === "anomalies") { waiting.anomalies = change.anomalies; return queue; }
  const done = ordered(async () => { if (waiting === change) waiting = null; show(await post("/api/edit", change)); });
  waiting = change;
  return done;
}

function ordered(work) {
  waiting = null;
  queue = queue.then(() => tried(work));
  return queue;
}

// In the same order as changes: undo must not overtake the change that it takes back.
const step = (way) => ordered(async () => show(await post(`/api/${way}`)));

// Live figures while a drag is under way: one question at a time, always the newest.
let asking = false, next = null;
async function measure(change) {
  next = change;
  if (asking) return;
  asking = true;
  while (next) {
    const now = next;
    next = null;
    try {
      const found = await post("/api/measure", now);
      if (stage.drag) showMeasurements(found.measurements);
    } catch { next = null; } // out of the frame for a moment: dropping it there is what says so
  }
  asking = false;
}

function show(state) {
  page.state = { ...page.state, ...state };
  const { desk } = page.state;
  page.revision += 1;
  by("empty").hidden = Boolean(desk);
  by("undo").disabled = !page.state.undo;
  by("redo").disabled = !page.state.redo;
  for (const id of ["add", "add-now"]) by(id).disabled = !desk;
  if (desk) {
    stage.show(desk, background());
    structures();
    showMeasurements(desk.measurements);
    showAnomalies(desk, (anomalies, merge) => edit({ op: "anomalies", anomalies, merge }));
    by("add").replaceChildren(...desk.structures.map((s) => node("option", { value: s.name }, s.label)));
    by("plane").value = desk.plane;
    by("center").value = desk.center ?? "";
    if (document.activeElement !== by("age")) by("age").value = desk.age_weeks?.toFixed(1).replace(/\.0$/, "") ?? "";
    by("says").textContent = `${desk.plane_label}; ${desk.origin}${desk.unit === "mm" ? `; ${desk.extent.toFixed(0)} mm across` : ""}`;
  }
  buttons();
  showHistory(page.state.results, page.result?.id, openResult);
}

function background() {
  if (page.job?.picture) return page.job.picture;
  const { desk } = page.state;
  return desk?.has_picture ? `/api/desk/image?r=${page.state.undo}.${page.state.redo}.${encodeURIComponent(desk.origin)}.${page.revision}` : null;
}

function structures() {
  showStructures(page.state.desk, stage.chosen, (index) => { stage.choose(index); by("stage").querySelector(`[data-index="${index}"]`)?.focus(); });
  const none = !stage.object;
  by("delete").disabled = none;
  by("absent").disabled = none;
}

function buttons() {
  const { desk } = page.state, busy = Boolean(page.job);
  by("generate").disabled = busy || !desk;
  by("counterfactual").disabled = busy || !desk?.can_counterfactual;
  by("make-hint").textContent = desk && !desk.can_counterfactual ? "A counterfactual needs an image: generate one, or open one." : "";
  by("progress").hidden = !busy;
  for (const [id, needs] of [["show-result", page.result], ["show-swipe", page.result?.kind === "counterfactual"], ["show-change", page.result?.kind === "counterfactual"]])
    by(id).disabled = !needs;
  by("export").hidden = !page.result;
}

function view(name) {
  page.view = name;
  for (const one of ["edit", "result", "swipe", "change"]) by(`show-${one}`).setAttribute("aria-pressed", one === name);
  const compared = name !== "edit", base = page.result && `/api/results/${page.result.id}`;
  by("compare").hidden = !compared;
  by("stage").toggleAttribute("hidden", compared);
  by("stage").style.display = compared ? "none" : "";
  by("tools").hidden = compared;
  by("swipe-row").hidden = name !== "swipe";
  by("compare-line").hidden = by("compare-before").hidden = name !== "swipe";
  if (!compared) return;
  by("compare-after").src = `${base}/${name === "change" ? "change" : "image"}`;
  by("compare-after").alt = { result: "The image", swipe: "After the edit", change: "Difference, grey is no change" }[name];
  if (name === "swipe") { by("compare-before").src = `${base}/before`; swipe(); }
  by("tag-left").textContent = name === "swipe" ? "before" : "";
  by("tag-right").textContent = { result: "", swipe: "after", change: "difference x 2; grey: no change" }[name];
}

function swipe() {
  const at = Number(by("swipe").value);
  by("compare-before").style.clipPath = `inset(0 ${100 - at}% 0 0)`;
  by("compare-line").style.left = `calc(${at}% - 1px)`;
}

async function make(kind) {
  if (by(kind).disabled) return;
  view("edit");
  page.job = { id: "", picture: null };
  buttons();
  const ended = await tried(async () => {
    let last = null;
    for await (const job of follow(await begin(kind, Number(by("seed").value)))) {
      last = job;
      page.job.id = job.id;
      by("bar").value = share(job);
      by("bar-text").textContent = words(job);
      if (job.version) { page.job.picture = picture(job); stage.picture(page.job.picture); }
      if (job.state === "running") by("status").textContent = job.stage === "coarse" ? "Coarse stage" : "Fine stage: refining";
    }
    return last;
  });
  page.job = null;
  by("status").textContent = ended ? { done: "The image is there.", cancelled: "Cancelled.", failed: "" }[ended.state] : "";
  if (ended?.state === "failed") await tried(() => { throw new Error(ended.error); });
  if (ended?.state_now) show(ended.state_now); else buttons();
  if (ended?.state !== "done") { stage.picture(background()); return; }
  await pick(page.state.results.find((r) => r.id === ended.result));
  view(kind === "counterfactual" ? "swipe" : "edit");
}

async function pick(result) {
  page.result = result;
  buttons();
  showHistory(page.state.results, result.id, openResult);
  by("export-title").textContent = `Export image ${result.number}`;
  for (const [id, kind] of [["x-png", "image.png"], ["x-layout", "layout.json"], ["x-dicom", "dicom.zip"], ["x-all", "all.zip"]])
    by(id).href = `/api/results/${result.id}/${kind}`;
  by("command").textContent = await text(`/api/results/${result.id}/command.txt`);
}

const openResult = (result) => tried(async () => {
  show(await post(`/api/results/${result.id}/open`));
  by("seed").value = result.seed;
  await pick(result);
  view(result.kind === "counterfactual" ? "swipe" : "result");
});

const begun = (call) => tried(async () => {
  by("status").textContent = "Opening…";
  page.result = null;
  stage.chosen = -1;
  show(await call());
  view("edit");
  by("status").textContent = "";
}).finally(() => { if (by("status").textContent === "Opening…") by("status").textContent = ""; });

const wish = () => ({ center: by("center").value || null, age_weeks: by("age").value === "" ? null : Number(by("age").value) });

function upload(input, what) {
  const file = input.files[0];
  input.value = "";
  if (!file) return;
  const asked = new URLSearchParams({ what });
  const { center, age_weeks } = wish();
  if (what === "image" && by("plane").value) asked.set("plane", by("plane").value);
  if (center) asked.set("center", center);
  if (age_weeks !== null) asked.set("age_weeks", age_weeks);
  begun(() => send(`/api/upload?${asked}`, file));
}

function stated() {
  if (!page.state.desk) return;
  edit({ op: "set", ...wish() });
}

function wire() {
  const clicks = {
    undo: () => step("undo"),
    redo: () => step("redo"),
    sample: () => begun(() => post("/api/start", { plane: by("plane").value || null, seed: Number(by("seed").value), ...wish() })),
    "take-case": () => begun(() => post("/api/start", { case: by("case").value, ...wish() })),
    "open-image": () => by("image-file").click(),
    "open-layout": () => by("layout-file").click(),
    generate: () => make("generate"),
    counterfactual: () => make("counterfactual"),
    cancel: () => page.job?.id && tried(() => cancel(page.job.id)),
    "new-seed": () => { by("seed").value = Math.floor(Math.random() * 1e6); },
    "add-now": async () => { await edit({ op: "add", structure: by("add").value }); stage.choose(page.state.desk.objects.length - 1); },
    delete: () => edit({ op: "delete", index: stage.chosen }),
    absent: () => edit({ op: "delete", index: stage.chosen, absent: true }),
    "tool-select": () => tool("select"), "tool-paint": () => tool("paint"), "tool-erase": () => tool("erase"),
    "show-edit": () => view("edit"), "show-result": () => view("result"), "show-swipe": () => view("swipe"), "show-change": () => view("change"),
    adopt: () => tried(async () => { show(await post(`/api/results/${page.result.id}/adopt`)); view("edit"); }),
    "help-open": () => by("help").showModal(),
    end: () => tried(async () => { await post("/api/end"); document.body.replaceChildren(node("main", {}, node("h1", {}, "The sitting has ended"), node("p", {}, "Nothing of it was kept. "), node("a", { href: "/" }, "Begin a new one"))); }),
  };
  for (const [id, call] of Object.entries(clicks)) by(id).addEventListener("click", call);
  by("image-file").addEventListener("change", (e) => upload(e.target, "image"));
  by("layout-file").addEventListener("change", (e) => upload(e.target, "layout"));
  for (const id of ["center", "age"]) by(id).addEventListener("change", stated);
  by("overlay").addEventListener("change", (e) => by("frame").classList.toggle("no-overlay", !e.target.checked));
  by("brush").addEventListener("input", (e) => { stage.brush = Number(e.target.value); });
  by("swipe").addEventListener("input", swipe);
  by("compare").addEventListener("pointermove", (e) => {
    const box = by("compare").getBoundingClientRect();
    if (page.view === "swipe" && (e.buttons || e.pointerType === "mouse")) { by("swipe").value = (100 * (e.clientX - box.left)) / box.width; swipe(); }
  });
  by("anomaly").addEventListener("change", (e) => {
    const kind = page.state.desk.possible.find((p) => p.name === e.target.value);
    if (!kind) return;
    // A little beyond its limit: plainly there, and room to slide either way.
    const beyond = kind.limit === kind.low ? kind.low + 0.2 * (kind.high - kind.low) : kind.high - 0.2 * (kind.high - kind.low);
    edit({ op: "anomalies", anomalies: [...page.state.desk.anomalies, [kind.name, Number(beyond.toFixed(2))]] });
  });
  document.addEventListener("keydown", keys);
}

function tool(name) {
  stage.use(name);
  for (const one of ["select", "paint", "erase"]) by(`tool-${one}`).setAttribute("aria-pressed", one === name);
}

function keys(event) {
  const typing = event.target.matches("input:not([type=range]):not([type=checkbox]), select, textarea");
  const letter = event.key.toLowerCase();
  if (event.ctrlKey && (letter === "z" || letter === "y") && !typing) {
    event.preventDefault();
    step(letter === "y" || event.shiftKey ? "redo" : "undo"); // not by the button, which changes under way may still disable
  } else if (!typing && !event.ctrlKey && !event.altKey && !event.metaKey) {
    const ids = { g: "generate", c: "counterfactual", p: "tool-paint", e: "tool-erase", m: "tool-select", 1: "show-edit", 2: "show-result", 3: "show-swipe", 4: "show-change" };
    const target = by(ids[letter] ?? "");
    if (target && !target.disabled) target.click();
  }
}

async function load() {
  wire();
  await tried(async () => {
    const state = await get("/api/state"), { choices } = state;
    by("plane").replaceChildren(node("option", { value: "" }, "read it from the image"), ...choices.planes.map((p) => node("option", { value: p.name }, p.label)));
    by("center").replaceChildren(node("option", { value: "" }, "none asked"), ...choices.centers.map((c) => node("option", { value: c }, c)));
    by("case-row").hidden = !choices.cases.length;
    by("case").replaceChildren(...choices.cases.map((c) => node("option", { value: c.id }, `${c.plane}, ${c.center}, ${c.id.slice(0, 8)}`)));
    show(state);
  });
  document.documentElement.dataset.ready = "true";
}

load();
