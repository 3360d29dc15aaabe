// Calls of the server. An error is thrown as its own sentence, which the page shows as it is.

async function answer(response) {
  const value = await response.json().catch(() => ({ error: `the studio answered ${response.status}` }));
  if (!response.ok) throw new Error(value.error ?? "the studio could not read what was sent");
  return value;
}

export const get = (path) => fetch(path).then(answer);

export const post = (path, value = {}) =>
  fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(value) }).then(answer);

export const send = (path, file) => fetch(path, { method: "POST", body: file }).then(answer);

export const text = (path) => fetch(path).then((r) => r.text());
