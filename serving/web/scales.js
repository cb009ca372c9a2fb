// Scales and ticks of charts. Pure.

const NICE = [1, 2, 5, 10];

/** About `most` round numbers that span from `low` to `high`. */
export function ticks(low, high, most = 5) {
  const raw = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = NICE.map((n) => n * power).find((n) => n >= raw * 0.999);
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step) found.push(Number(value.toPrecision(12)));
  return found;
}

/** Whole numbers from `low` to `high`, at most about `most` of them. */
export function wholeTicks(low, high, most = 8) {
  const step = Math.max(1, Math.ceil((high - low + 1) / most));
  return Array.from({ length: Math.floor((high - low) / step) + 1 }, (_, at) => low + at * step);
}

/** 1, 2, 5 of each power of ten between `low` and `high`; fewer where these are far apart. */
export function logTicks(low, high, most = 6) {
  for (const digits of [[1, 2, 5], [1, 3], [1]]) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      found.push(...digits.map((digit) => digit * 10 ** power).filter((value) => value >= low && value <= high));
    }
    if (found.length <= most) return found;
  }
  return [low, high];
}

const padded = (low, high, share) => {
  const room = high > low ? (high - low) * share : Math.abs(high) * share || share;
  return [low - room, high + room];
};

/** A scale over `values` onto `from`..`to`; logarithmic when they span more than four times (all above zero). */
export function scaleOf(values, from, to, { whole = false, share = 0.07 } = {}) {
  const [least, most] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
  const log = !whole && least > 0 && most > 4 * least;
  const turn = log ? Math.log : (value) => value;
  const [low, high] = whole ? [least - 0.5, most + 0.5] : padded(turn(least), turn(most), share);
  const at = (value) => from + ((turn(value) - low) / (high - low)) * (to - from);
  const back = log ? Math.exp : (value) => value;
  const found = whole ? wholeTicks(Math.ceil(low), Math.floor(high)) : log ? logTicks(back(low), back(high)) : ticks(low, high, 4);
  return { at, ticks: found };
}
