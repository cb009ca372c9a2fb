// A chart of children: quality upwards, something else to the right. Dots, and the winner as its task's badge.

import { h, s, tone } from "./dom.js";
import { scaleOf } from "./scales.js";

const MARGIN = { left: 44, right: 12, top: 10, bottom: 24 };
const REACH = 34;

const CROWN = 17;
const ASIDE = 60;
const crownWidth = (point) => (String(point.number).length > 1 ? 22 : CROWN);

/** Move winners' badges a little to the right where one would cover another; their dots stay where they belong. */
function apart(winners, right) {
  const standing = [];
  for (const winner of [...winners].sort((a, b) => a.x - b.x || a.y - b.y)) {
    const beside = (other) => (crownWidth(other.point) + crownWidth(winner.point)) / 2 + 1;
    let x = winner.x;
    for (const other of standing) {
      if (Math.abs(other.y - winner.y) < CROWN && Math.abs(other.x - x) < beside(other)) x = other.x + beside(other);
    }
    winner.aside = x !== winner.x && x - winner.x <= ASIDE && x + CROWN / 2 <= right ? winner.x : null;
    if (winner.aside !== null) winner.x = x;
    standing.push(winner);
    standing.sort((a, b) => a.x - b.x);
  }
}

const crown = ({ point, x, y }) => {
  const width = crownWidth(point);
  const text = s("text", { x, y: y + 3.8 }, String(point.number));
  return s("g", { class: "crown" }, s("rect", { x: x - width / 2, y: y - 8.5, width, height: CROWN, rx: 5.5 }), text);
};

function axes(x, y, size, write) {
  const group = s("g", { "aria-hidden": "true" });
  for (const value of y.ticks) {
    const at = y.at(value);
    if (at < MARGIN.top - 2 || at > size.height - MARGIN.bottom + 2) continue;
    group.append(s("line", { class: "grid", x1: MARGIN.left, x2: size.width - MARGIN.right, y1: at, y2: at }));
    group.append(s("text", { x: MARGIN.left - 8, y: at + 4, "text-anchor": "end" }, `${Number((100 * value).toPrecision(4))}%`));
  }
  for (const value of x.ticks) {
    const at = x.at(value);
    if (at < MARGIN.left + 4 || at > size.width - MARGIN.right + 4) continue;
    group.append(s("text", { x: at, y: size.height - 5, "text-anchor": "middle" }, write(value)));
  }
  return group;
}

/** The best quality so far, as a line that rises, of each task's points in their order. */
function bests(points, x, y) {
  const lines = new Map();
  for (const point of points) {
    const line = lines.get(point.task) ?? { best: -1, d: "", point };
    const best = Math.max(line.best, point.quality);
    line.d += line.d ? `H${x(point).toFixed(1)}V${y.at(best).toFixed(1)}` : `M${x(point).toFixed(1)} ${y.at(best).toFixed(1)}`;
    line.best = best;
    lines.set(point.task, line);
  }
  return [...lines].map(([task, { d, point }]) => tone(s("path", { class: "best", d, "data-task": task }), point.colour));
}

/**
 * A chart as an element. `points`: [{ x, quality, task, number, colour, won, words: [title, line, ...] }] in the order of
 * the run; `write` writes a tick of x. Left and right arrow keys go through the points.
 */
export function scatter({ title, note, points, write, whole = false, line = false, key }) {
  const plot = h("div", { class: "plot", tabindex: 0, role: "application", "aria-roledescription": "chart", "aria-label": `${title}. ${points.length} children. Left and right arrow keys go through them.`, "data-key": key });
  const said = h("span", { class: "tip", hidden: true });
  const heard = h("p", { class: "note", "aria-live": "polite" }, note);
  let placed = [];
  let at = -1;

  function draw() {
    const size = { width: plot.clientWidth, height: plot.clientHeight };
    if (!size.width) return;
    const y = scaleOf(points.map((point) => point.quality), size.height - MARGIN.bottom, MARGIN.top);
    const x = scaleOf(points.map((point) => point.x), MARGIN.left + 6, size.width - MARGIN.right - 6, { whole });
    const shift = whole ? spread(points, x) : () => 0;
    const place = (point) => x.at(point.x) + shift(point);
    placed = points.map((point) => ({ point, x: place(point), y: y.at(point.quality) }));
    apart(placed.filter(({ point }) => point.won), size.width);
    const inColour = (node, point) => {
      node.dataset.task = point.task;
      return tone(node, point.colour);
    };
    const dot = ({ point, x, y, aside }) => inColour(s("circle", { class: "dot", cx: aside ?? x, cy: y, r: 4.2 }), point);
    const svg = s("svg", { "aria-hidden": "true" }, axes(x, y, size, write), line ? bests(points, place, y) : []);
    const winners = placed.filter(({ point }) => point.won);
    svg.append(...placed.filter((one) => !one.point.won || one.aside !== null).map(dot), ...winners.map((one) => inColour(crown(one), one.point)));
    plot.classList.toggle("many", new Set(points.map((point) => point.task)).size > 6 && !plot.dataset.only);
    plot.replaceChildren(svg, said);
    away();
  }

  const away = (task = plot.dataset.only) =>
    plot.querySelectorAll("[data-task]").forEach((node) => node.classList.toggle("away", Boolean(task) && node.dataset.task !== task));

  function tell(index, aloud = false) {
    plot.querySelector(".here")?.remove();
    at = index;
    said.hidden = index < 0;
    if (index < 0) return;
    const { point, x, y } = placed[index];
    const [head, ...rest] = point.words;
    said.replaceChildren(h("b", {}, head), ...rest.flatMap((text, n) => (n ? [h("br"), text] : [text])));
    plot.querySelector("svg").append(s("circle", { class: "here", cx: x, cy: y, r: point.won ? 12 : 7 }));
    const right = x > plot.clientWidth / 2;
    said.style.left = right ? "" : `${x + 14}px`;
    said.style.right = right ? `${plot.clientWidth - x + 14}px` : "";
    said.style.top = y > plot.clientHeight / 2 ? "" : `${y}px`;
    said.style.bottom = y > plot.clientHeight / 2 ? `${plot.clientHeight - y}px` : "";
    if (aloud) heard.textContent = point.words.join(", ");
  }

  const among = () => placed.map((_, index) => index).filter((index) => !plot.dataset.only || placed[index].point.task === plot.dataset.only);

  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    let [nearest, distance] = [-1, REACH];
    for (const index of among()) {
      const far = Math.hypot(placed[index].x - event.clientX + box.left, placed[index].y - event.clientY + box.top);
      if (far < distance) [nearest, distance] = [index, far];
    }
    if (nearest !== at) tell(nearest);
  });
  plot.addEventListener("pointerleave", () => tell(-1));
  plot.addEventListener("blur", () => ((heard.textContent = note), tell(-1)));
  plot.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    event.preventDefault();
    const order = among().sort((a, b) => placed[a].x - placed[b].x);
    if (!order.length) return;
    const now = order.indexOf(at);
    const next = now < 0 ? 0 : Math.max(0, Math.min(order.length - 1, now + (event.key === "ArrowRight" ? 1 : -1)));
    tell(order[next], true);
  });
  new ResizeObserver(draw).observe(plot);

  const element = h("figure", { class: "card chart" }, h("h3", {}, title), heard, plot);
  const only = (task) => {
    if (task) plot.dataset.only = task;
    else delete plot.dataset.only;
    plot.classList.toggle("many", !task && new Set(points.map((point) => point.task)).size > 6);
    away(task);
    tell(-1);
  };
  return { element, only };
}

/** Children of one generation stand side by side around it. */
function spread(points, x) {
  const room = Math.min(60, Math.abs(x.at(1) - x.at(0)) * 0.76);
  const siblings = new Map();
  points.forEach((point) => {
    const name = `${point.task} ${point.x}`;
    siblings.set(name, [...(siblings.get(name) ?? []), point]);
  });
  const offset = new Map();
  for (const group of siblings.values()) group.forEach((point, at) => offset.set(point, ((at + 0.5) / group.length - 0.5) * room));
  return (point) => offset.get(point);
}

