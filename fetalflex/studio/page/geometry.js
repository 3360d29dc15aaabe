// Affine maps as SVG writes them, [a, b, c, d, e, f]: x' = a x + c y + e, y' = b x + d y + f.

export const IDENTITY = [1, 0, 0, 1, 0, 0];

export const shift = (dx, dy) => [1, 0, 0, 1, dx, dy];

export const multiply = (m, n) => [
  m[0] * n[0] + m[2] * n[1], m[1] * n[0] + m[3] * n[1],
  m[0] * n[2] + m[2] * n[3], m[1] * n[2] + m[3] * n[3],
  m[0] * n[4] + m[2] * n[5] + m[4], m[1] * n[4] + m[3] * n[5] + m[5],
];

export const apply = (m, [x, y]) => [m[0] * x + m[2] * y + m[4], m[1] * x + m[3] * y + m[5]];

export function turn(degrees, [x, y]) {
  const c = Math.cos((degrees * Math.PI) / 180), s = Math.sin((degrees * Math.PI) / 180);
  return [c, s, -s, c, x - c * x + s * y, y - s * x - c * y];
}

// Scale by (u, v) along an axis at `degrees` and across it, about a fixed point.
export function stretch(u, v, degrees, [x, y]) {
  const c = Math.cos((degrees * Math.PI) / 180), s = Math.sin((degrees * Math.PI) / 180);
  const a = u * c * c + v * s * s, b = (u - v) * c * s, d = u * s * s + v * c * c;
  return [a, b, b, d, x - a * x - b * y, y - b * x - d * y];
}

// A point given along an object's own axes, as a share of its half lengths, in layout units.
export function onFrame(object, along, across) {
  const r = (object.angle_deg * Math.PI) / 180, [a, b] = object.half;
  const [x, y] = object.centre, u = along * a, v = across * b;
  return [x + u * Math.cos(r) - v * Math.sin(r), y + u * Math.sin(r) + v * Math.cos(r)];
}

export function alongAxes(object, [x, y]) {
  const r = (object.angle_deg * Math.PI) / 180, dx = x - object.centre[0], dy = y - object.centre[1];
  return [dx * Math.cos(r) + dy * Math.sin(r), dy * Math.cos(r) - dx * Math.sin(r)];
}
