// The layout over the image: drawing, dragging, keys and painting. It knows no server: it tells what was done.

import { IDENTITY, alongAxes, apply, onFrame, shift, stretch, turn } from "./geometry.js";

const SVG = "http://www.w3.org/2000/svg";
const HANDLES = [[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [1, -1], [-1, 1], [-1, -1]];
const LEAST = 0.08; // a drag makes nothing smaller than this share of itself

function element(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent?.append(made);
  return made;
}

export class Stage {
  // on: { move(index, matrix), moving(index, matrix), remove(index), paint(index, points, radius, erase), choose(index) }
  constructor(svg, on) {
    this.svg = svg;
    this.on = on;
    this.desk = null;
    this.chosen = -1;
    this.tool = "select";
    this.brush = 2;
    this.cursor = null;
    svg.addEventListener("pointerdown", (e) => this.down(e));
    svg.addEventListener("pointermove", (e) => this.moved(e));
    svg.addEventListener("pointerup", (e) => this.up(e));
    svg.addEventListener("pointercancel", () => this.drop());
    svg.addEventListener("keydown", (e) => this.key(e));
  }

  get unit() { // layout units per pixel on screen
    return this.desk.extent / Math.max(1, this.svg.getBoundingClientRect().width);
  }

  show(desk, picture) {
    const focused = document.activeElement?.dataset?.index;
    this.desk = desk;
    this.drop();
    this.svg.replaceChildren();
    if (!desk) return;
    if (this.chosen >= desk.objects.length) this.chosen = -1;
    this.svg.setAttribute("viewBox", `0 0 ${desk.extent} ${desk.extent}`);
    this.image = element("image", { x: 0, y: 0, width: desk.extent, height: desk.extent, "aria-hidden": true }, this.svg);
    this.picture(picture);
    // Large structures first, so that those inside them can be reached.
    const order = [...desk.objects].sort((a, b) => b.half[0] * b.half[1] - a.half[0] * a.half[1]);
    for (const object of order) this.draw(object);
    this.handles();
    if (focused !== undefined) this.svg.querySelector(`[data-index="${focused}"]`)?.focus();
  }

  picture(address) {
    if (address) this.image?.setAttribute("href", address);
    else this.image?.removeAttribute("href");
  }

  draw(object) {
    const group = element("g", {
      class: `object${object.index === this.chosen ? " chosen" : ""}`, tabindex: 0, role: "button",
      "aria-pressed": object.index === this.chosen, "aria-label": object.says, "data-index": object.index,
    }, this.svg);
    element("path", { d: object.path, stroke: object.colour, fill: object.colour, "fill-rule": "evenodd" }, group);
    group.addEventListener("focus", () => this.choose(object.index));
  }

  handles() {
    this.svg.querySelectorAll(".handle, .frame-line, text").forEach((e) => e.remove());
    const object = this.object;
    if (!object || this.tool !== "select") return;
    const size = 5 * this.unit, corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([u, v]) => onFrame(object, u, v));
    element("path", { class: "frame-line", d: `M${corners.map((p) => p.join(" ")).join("L")}Z` }, this.svg);
    for (const [u, v] of HANDLES) {
      const [x, y] = onFrame(object, u, v);
      const cursor = u && v ? "nwse-resize" : Math.abs(Math.cos((object.angle_deg * Math.PI) / 180)) > 0.7 === Boolean(u) ? "ew-resize" : "ns-resize";
      element("rect", { class: "handle", x: x - size, y: y - size, width: 2 * size, height: 2 * size, "data-u": u, "data-v": v, cursor }, this.svg);
    }
    if (object.kind !== "box") {
      const [x, y] = onFrame(object, 1 + (26 * this.unit) / object.half[0], 0);
      element("circle", { class: "handle turn", cx: x, cy: y, r: 1.2 * size }, this.svg);
    }
    const top = corners.reduce((a, b) => (a[1] < b[1] ? a : b));
    const label = element("text", { x: object.centre[0], y: Math.max(top[1] - 10 * this.unit, 14 * this.unit), "text-anchor": "middle", "aria-hidden": true }, this.svg);
    label.style.fontSize = `${13 * this.unit}px`;
    label.style.strokeWidth = `${3 * this.unit}px`;
    label.textContent = object.label;
  }

  get object() { return this.desk?.objects[this.chosen]; }

  choose(index) {
    if (index === this.chosen) return;
    this.chosen = index;
    for (const group of this.svg.querySelectorAll(".object")) {
      const own = Number(group.dataset.index) === index;
      group.classList.toggle("chosen", own);
      group.setAttribute("aria-pressed", own);
    }
    this.handles();
    this.on.choose(index);
  }

  use(tool) {
    this.tool = tool;
    this.cursor = null;
    this.svg.parentElement.classList.toggle("painting", tool !== "select");
    if (tool === "select") this.svg.removeAttribute("tabindex");
    else this.svg.setAttribute("tabindex", 0);
    if (this.desk) this.handles();
  }

  at(event) {
    const box = this.svg.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * this.desk.extent, ((event.clientY - box.top) / box.height) * this.desk.extent];
  }

  down(event) {
    if (!this.desk || event.button !== 0) return;
    const from = this.at(event), target = event.target;
    if (this.tool !== "select") {
      if (!this.object) return;
      this.drag = { kind: "paint", points: [from], line: this.stroke() };
    } else if (target.classList.contains("handle")) {
      const kind = target.classList.contains("turn") ? "turn" : "stretch";
      this.drag = { kind, from, object: this.object, u: Number(target.dataset.u), v: Number(target.dataset.v), matrix: IDENTITY };
    } else {
      const group = target.closest(".object");
      if (!group) return;
      group.focus({ preventScroll: true });
      this.choose(Number(group.dataset.index));
      this.drag = { kind: "move", from, object: this.object, matrix: IDENTITY };
    }
    this.svg.setPointerCapture(event.pointerId);
    event.preventDefault();
  }

  moved(event) {
    const drag = this.drag;
    if (!drag) return;
    const to = this.at(event);
    if (drag.kind === "paint") {
      drag.points.push(to);
      drag.line.setAttribute("d", `M${drag.points.map((p) => p.join(" ")).join("L")}`);
      return;
    }
    drag.matrix = this.matrix(drag, to, event.shiftKey);
    drag.touched = true;
    this.preview(drag.matrix);
    this.on.moving(this.chosen, drag.matrix);
  }

  matrix({ kind, from, object, u, v }, to, even) {
    if (kind === "move") return shift(to[0] - from[0], to[1] - from[1]);
    if (kind === "turn") {
      const angle = ([x, y]) => (Math.atan2(y - object.centre[1], x - object.centre[0]) * 180) / Math.PI;
      return turn(angle(to) - angle(from), object.centre);
    }
    // The opposite side stays where it is.
    const [along, across] = alongAxes(object, to), [a, b] = object.half;
    let grow = u ? Math.max(LEAST, (u * along + a) / (2 * a)) : 1, widen = v ? Math.max(LEAST, (v * across + b) / (2 * b)) : 1;
    if (even && u && v) grow = widen = Math.max(grow, widen);
    return stretch(grow, widen, object.angle_deg, onFrame(object, -u, -v));
  }

  preview(matrix) {
    const value = `matrix(${matrix.join(" ")})`;
    this.svg.querySelector(`.object[data-index="${this.chosen}"]`)?.setAttribute("transform", value);
    for (const part of this.svg.querySelectorAll(".frame-line, .handle, text")) part.setAttribute("visibility", "hidden");
  }

  up() {
    const drag = this.drag;
    this.drag = null;
    if (!drag) return;
    if (drag.kind === "paint") this.on.paint(this.chosen, drag.points, this.brush * this.scale, this.tool === "erase");
    else if (drag.touched) this.on.move(this.chosen, drag.matrix, false);
    else this.drop();
  }

  drop() { // takes back what a drag has shown
    this.drag = null;
    this.svg.querySelectorAll(".stroke").forEach((e) => e.remove());
    this.svg.querySelectorAll(".object[transform]").forEach((e) => e.removeAttribute("transform"));
    this.svg.querySelectorAll("[visibility]").forEach((e) => e.removeAttribute("visibility"));
  }

  get scale() { return this.desk.extent / 100; } // the brush is in hundredths of the side

  stroke() {
    return element("path", { class: `stroke ${this.tool}`, "stroke-width": 2 * this.brush * this.scale }, this.svg);
  }

  key(event) {
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (this.tool !== "select" && this.desk && this.object && (arrow || event.key === " ")) this.brushKey(event, arrow);
    else if (this.tool === "select" && this.object && event.target.closest(".object")) this.objectKey(event, arrow);
  }

  objectKey(event, arrow) {
    const object = this.object, step = (event.ctrlKey ? 0.25 : 1) * this.scale;
    let matrix = null;
    if (arrow && event.shiftKey) matrix = stretch(1 + 0.04 * arrow[0], 1 - 0.04 * arrow[1], object.angle_deg, object.centre);
    else if (arrow) matrix = shift(step * arrow[0], step * arrow[1]);
    else if ((event.key === "[" || event.key === "]") && object.kind !== "box") matrix = turn(event.key === "]" ? 3 : -3, object.centre);
    else if (event.key === "Delete" || event.key === "Backspace") this.on.remove(this.chosen);
    else return;
    event.preventDefault();
    if (matrix) this.on.move(this.chosen, matrix, event.repeat);
  }

  brushKey(event, arrow) {
    event.preventDefault();
    this.cursor ??= { at: this.object.centre, line: this.stroke() };
    if (arrow) this.cursor.at = apply(shift(arrow[0] * this.scale, arrow[1] * this.scale), this.cursor.at);
    const [x, y] = this.cursor.at;
    this.cursor.line.setAttribute("d", `M${x} ${y}h0.0001`);
    if (!this.cursor.line.isConnected) this.svg.append(this.cursor.line);
    if (event.key === " ") this.on.paint(this.chosen, [this.cursor.at], this.brush * this.scale, this.tool === "erase");
  }
}
