// Following one image on its way: its place in the queue, its stages, its end.

import { get, post } from "./http.js";

const RUNNING_MS = 120, WAITING_MS = 400;
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// Yields every new state of a job until it has ended.
export async function* follow(job) {
  let version = -1, state = "";
  for (;;) {
    if (job.version !== version || job.state !== state) yield job;
    ({ version, state } = job);
    if (["done", "cancelled", "failed"].includes(job.state)) return;
    await pause(job.state === "waiting" ? WAITING_MS : RUNNING_MS);
    job = await get(`/api/jobs/${job.id}`);
  }
}

export const begin = (kind, seed) => post("/api/jobs", { kind, seed });
export const cancel = (id) => post(`/api/jobs/${id}/cancel`);
export const picture = (job) => `/api/jobs/${job.id}/image?v=${job.version}`;

export function words(job) {
  if (job.state === "waiting") return job.ahead ? `${job.ahead} before yours` : "starting";
  if (job.stage === "coarse") return `coarse stage, step ${job.done} of ${job.most}`;
  return `fine stage, step ${job.done}`;
}

// Coarse is three fifths of the way: the fine stage may end early.
export const share = (job) =>
  job.stage === "coarse" ? (0.6 * job.done) / Math.max(1, job.most) : 0.6 + (0.4 * job.done) / Math.max(1, job.most, job.done);
