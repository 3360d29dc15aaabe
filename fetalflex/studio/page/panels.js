// The lists beside the picture: measurements, structures, anomalies, history.

const number = (value, unit) => (unit === "" ? value.toFixed(2) : value.toFixed(1));
const by = (id) => document.getElementById(id);

export function node(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false && value !== undefined) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function range({ low, high, unit }) {
  if (low === null && high === null) return "–";
  if (low === null) return `below ${number(high, unit)}`;
  return high === null ? `above ${number(low, unit)}` : `${number(low, unit)} – ${number(high, unit)}`;
}

const SIGNS = { high: "▲ ", low: "▼ ", normal: "", unknown: "" };
const WORDS = { high: "above normal", low: "below normal", normal: "normal", unknown: "" };

export function showMeasurements(list) {
  const rows = list.map((m) => {
    const value = m.value === null ? "–" : `${SIGNS[m.status]}${number(m.value, m.unit)} ${m.unit}`;
    const more = [m.grade, m.note].filter(Boolean).join("; ");
    const cell = node("td", { class: "value", title: WORDS[m.status] }, value);
    if (WORDS[m.status]) cell.append(node("small", {}, WORDS[m.status]));
    const name = node("td", { title: m.source }, m.label);
    if (more) name.append(node("small", {}, more));
    return node("tr", { class: m.status, "data-name": m.name }, name, cell, node("td", {}, range(m)));
  });
  by("measures").tBodies[0].replaceChildren(...rows);
  by("measure-hint").textContent = rows.length ? "" : "Nothing on the layout has a measure.";
}

export function showStructures(desk, chosen, choose) {
  const items = desk.objects.map((o) => {
    const dot = node("span", { class: "dot", "aria-hidden": true });
    dot.style.background = o.colour;
    return node("li", {}, node("button", { "aria-pressed": o.index === chosen, title: o.says, onclick: () => choose(o.index) }, dot, o.label, o.edited ? " (edited)" : ""));
  });
  const absent = desk.absent.map((name) => node("li", { class: "hint" }, `${name.replaceAll("-", " ")}: asked absent`));
  by("structures").replaceChildren(...items, ...absent);
}

// One row per anomaly, with a slider and a number; `change(list, merge)` is told of every change.
export function showAnomalies(desk, change) {
  const asked = desk.anomalies, known = Object.fromEntries(desk.possible.map((p) => [p.name, p]));
  const select = by("anomaly"), names = asked.map(([name]) => name);
  const free = desk.possible.filter((p) => !names.includes(p.name));
  select.replaceChildren(
    node("option", { value: "" }, free.length ? "choose an anomaly" : "none on this plane"),
    ...free.map((p) => node("option", { value: p.name, disabled: p.missing.length > 0 }, p.label + (p.missing.length ? ` (needs ${p.missing.join(", ")})` : ""))),
  );
  select.disabled = !free.length;
  const holder = by("anomalies");
  const shown = [...holder.children].map((row) => row.dataset.name);
  if (shown.join() === names.join()) { // a slider that is being dragged must not be replaced under the pointer
    asked.forEach(([, severity], i) => holder.children[i].querySelectorAll("input").forEach((input) => {
      if (input !== document.activeElement || input.type === "range") input.value = severity;
    }));
    return;
  }
  holder.replaceChildren(...asked.map(([name, severity]) => anomalyRow(known[name], severity, (value, merge) => {
    const now = currentAnomalies();
    change(value === null ? now.filter(([n]) => n !== name) : now.map(([n, s]) => [n, n === name ? value : s]), merge);
  })));
}

export const currentAnomalies = () =>
  [...by("anomalies").children].map((row) => [row.dataset.name, Number(row.dataset.value)]);

function anomalyRow(kind, severity, change) {
  const step = kind.high - kind.low > 3 ? 0.5 : 0.01, fixed = kind.low === kind.high;
  const row = node("div", { class: "asked", "data-name": kind.name, "data-value": severity });
  const tell = (value, merge) => { row.dataset.value = value; change(value, merge); };
  row.append(node("div", { class: "row" }, node("span", { class: "name", title: kind.definition }, kind.label),
    node("button", { "aria-label": `Remove ${kind.label}`, onclick: () => change(null, false) }, "Remove")));
  if (!fixed) {
    const attributes = { min: kind.low, max: kind.high, value: severity, "aria-label": `${kind.label}, ${kind.unit}` };
    let sliding = false;
    const slider = node("input", { type: "range", step, ...attributes, oninput: (e) => { tell(Number(e.target.value), sliding); sliding = true; }, onchange: () => { sliding = false; } });
    const field = node("input", { type: "number", step: "any", ...attributes, oninput: (e) => { const v = Number(e.target.value); if (e.target.value !== "" && v >= kind.low && v <= kind.high) tell(v, true); } });
    row.append(node("div", { class: "row" }, slider, field, node("span", { class: "unit" }, kind.unit)));
    row.append(node("p", { class: "hint" }, `${kind.low} to ${kind.high} ${kind.unit}`));
  }
  return row;
}

export function showHistory(results, current, open) {
  by("history").replaceChildren(...results.map((r) => {
    const what = r.kind === "generate" ? "Generated" : "Counterfactual";
    const asked = r.anomalies.map(([n, s]) => `${n.replaceAll("-", " ")} ${s}`).join(", ");
    return node("li", {}, node("button", { "aria-pressed": r.id === current, title: `${what}, seed ${r.seed}${asked ? `, ${asked}` : ""}`, onclick: () => open(r) },
      node("img", { src: `/api/results/${r.id}/image`, alt: `${what} ${r.number}`, loading: "lazy" }), node("span", {}, `${r.number} ${r.kind === "generate" ? "G" : "C"}`)));
  }));
}
