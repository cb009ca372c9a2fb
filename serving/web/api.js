// The server: JSON with the ETag of what one has, images, and the key where one is needed.

const STORED = "mutant-api-key";

/** What the server refused, in its own words. */
export class Refused extends Error {
  constructor(status, message, hint) {
    super(message);
    this.status = status;
    this.hint = hint ?? null;
  }
}

export const key = {
  get: () => sessionStorage.getItem(STORED) ?? "",
  set: (value) => (value ? sessionStorage.setItem(STORED, value) : sessionStorage.removeItem(STORED)),
};

async function ask(url, options = {}) {
  const headers = { ...options.headers };
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  let response;
  try {
    response = await fetch(url, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server does not answer.", "Is mutant serve still running?");
  }
  if (response.ok || response.status === 304) return response;
  const body = await response.json().catch(() => null);
  const { message, hint } = body?.error ?? {};
  throw new Refused(response.status, message ?? `The server answered with status ${response.status}.`, hint);
}

const seen = new Map();

/** The JSON at `url`, or null when it is still what this was called for before. */
export async function changed(url) {
  const last = seen.get(url);
  const response = await ask(url, last ? { headers: { "If-None-Match": last } } : {});
  if (response.status === 304) return null;
  const value = await response.json();
  seen.set(url, response.headers.get("ETag"));
  return value;
}

/** Forget what was seen of `url`, or of all, so that it is read anew. */
export const forget = (url) => (url === undefined ? seen.clear() : seen.delete(url));

/** The JSON at `url`. */
export const read = async (url, options) => (await ask(url, options)).json();

/** The image at `url`. */
export const blob = async (url) => (await ask(url)).blob();

/** Change something; what the server says of it does not matter. */
export const act = (method, url) => ask(url, { method });

/** Every task's answer to an image, the three most probable labels of each. */
export function predict(image, signal) {
  const body = new FormData();
  body.append("image", image, image.name ?? "image.png");
  return read("/predict?tasks=all&top_k=3", { method: "POST", body, signal });
}
