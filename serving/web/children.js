// Every child of a run as a table: the charts' numbers for who cannot see them, and the reasons of failures.

import { h } from "./dom.js";
import { count, duration, flops, percent } from "./format.js";

const MOST = 2000;
const TITLES = ["Task", "Generation", "Child", "State", "Quality", "Accounted", "Own", "FLOPs", "Training", "What it changed, or why it failed"];
const NUMBERS = new Set([1, 2, 4, 5, 6, 7, 8]);

function cells(child) {
  return [
    child.segment.task,
    child.generation + 1,
    child.child + 1,
    child.won ? "winner" : child.state.toLowerCase(),
    percent(child.quality),
    count(child.accounted_parameters),
    count(child.own_parameters),
    flops(child.flops),
    duration(child.seconds),
    child.reason ?? child.failure ?? child.mutations.join(", "),
  ];
}

const styled = (at) => (NUMBERS.has(at) ? "number" : at === TITLES.length - 1 ? "wide" : null);

/** A folded table; its rows are made when it is opened first. */
export function childrenTable(children, open) {
  const body = h("tbody");
  const table = h("table", {}, h("thead", {}, h("tr", {}, TITLES.map((title, at) => h("th", { scope: "col", class: styled(at) }, title)))), body);
  const fill = () => {
    if (body.childElementCount) return;
    body.append(...children.slice(0, MOST).map((child) => h("tr", {}, cells(child).map((text, at) => h("td", { class: styled(at) }, String(text))))));
  };
  const folded = h(
    "details",
    { class: "every", open, ontoggle: (event) => event.target.open && fill() },
    h("summary", { "data-key": "every" }, "Every child, as a table"),
    h("div", { class: "card roll", tabindex: 0, role: "region", "aria-label": "Every child of this run" }, table),
  );
  if (open) fill();
  return folded;
}
