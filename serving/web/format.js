// Numbers, times and ids as people read them.

export const UNKNOWN = "–";

const known = (write) => (value, ...more) => (value === null || value === undefined ? UNKNOWN : write(value, ...more));

const digits = (value) => (value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2));

function scaled(value, units) {
  let power = 0;
  while (value >= 999.5 && power < units.length - 1) {
    value /= 1000;
    power += 1;
  }
  return `${power === 0 ? value.toFixed(0) : digits(value)} ${units[power]}`.trim();
}

/** 476544 -> "477 k" */
export const count = known((value) => scaled(value, ["", "k", "M", "G", "T"]));

/** 476544 -> "477k", 2318 -> "2.3k": where there is little room. */
export const brief = known((value) => {
  const power = value < 1000 ? 0 : value < 999500 ? 1 : value < 999.5e6 ? 2 : 3;
  const short = value / 1000 ** power;
  return `${power > 0 && short < 9.95 ? short.toFixed(1) : short.toFixed(0)}${["", "k", "M", "G"][power]}`;
});

/** 66656202 -> "66.7 MFLOPs" */
export const flops = known((value) => scaled(value / 1e3, ["kFLOPs", "MFLOPs", "GFLOPs", "TFLOPs", "PFLOPs"]));

/** 5400 -> "5.40 kJ" */
export const energy = known((value) => scaled(value, ["J", "kJ", "MJ", "GJ"]));

/** 0.9441 -> "94.4%" */
export const percent = known((share) => `${(100 * share).toFixed(1)}%`);

/** 0.0239 -> "+2.4" */
export const points = known((share) => `${share < 0 ? "−" : "+"}${Math.abs(100 * share).toFixed(1)}`);

/** 75 -> "1 min 15 s" */
export const duration = known((seconds) => {
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(Math.round(seconds) / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds) % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
});

/** A time of day where the reader is. */
export const moment = known((text) =>
  new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }),
);

/** The beginning of a digest, long enough to be told from others. */
export const short = known((digest) => digest.slice(0, 10));

export const plural = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

/** "a, b, c and 4 more" */
export function listed(items, most = 5) {
  const rest = items.length - most;
  return rest <= 0 ? items.join(", ") : `${items.slice(0, most).join(", ")} and ${rest} more`;
}
