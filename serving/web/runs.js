// The runs: which there are, how far each segment is, and what its children reached.

import { $, badge, h, replace, tone } from "./dom.js";
import { childrenTable } from "./children.js";
import { brief, count, duration, flops, moment, percent, plural } from "./format.js";
import { scatter } from "./scatter.js";

const STATES = { open: "going on", finished: "finished", abandoned: "given up" };

const every = (run) =>
  run.segments.flatMap((segment) =>
    segment.generations.flatMap(({ generation, children }) => children.map((child) => ({ ...child, generation, segment }))),
  );

function pointOf(child, x) {
  const { task, number, colour } = child.segment;
  const words = [
    `${task}: ${percent(child.quality)}`,
    `generation ${child.generation + 1}, child ${child.child + 1}${child.won ? ", the winner" : ""}`,
    `${count(child.accounted_parameters)} parameters accounted`,
    `${flops(child.flops)} an image`,
  ];
  return { x, quality: child.quality, task, number, colour, won: child.won, words };
}

/** Generations are counted on over a run's visits of one task. */
function counted(run) {
  const before = new Map();
  return run.segments.flatMap((segment) => {
    const from = before.get(segment.task) ?? 0;
    before.set(segment.task, from + segment.generations.length);
    return segment.generations.flatMap(({ children }, at) => children.map((child) => ({ ...child, generation: at, place: from + at + 1, segment })));
  });
}

function charts(run) {
  const done = counted(run).filter((child) => child.quality !== null);
  if (!done.length) return [];
  const make = (title, note, x, write, more = {}) =>
    scatter({ title, note, write, key: title, points: done.map((child) => pointOf(child, x(child))), ...more });
  return [
    make("Quality by generation", "Best validation accuracy; the line: best so far.", (child) => child.place, String, { whole: true, line: true }),
    make("Quality against size", "Accounted parameters: what is shared, by its share.", (child) => child.accounted_parameters, brief),
    make("Quality against compute", "FLOPs for one image.", (child) => child.flops, brief),
  ];
}

function cell(child, range) {
  const node = h("i", { class: `cell ${child.state}${child.won ? " won" : ""}`, title: cellWords(child) });
  const [low, high] = range;
  const share = child.quality === null ? 0 : high > low ? (child.quality - low) / (high - low) : 1;
  node.style.setProperty("--much", `${Math.round(24 + 76 * share)}%`);
  return node;
}

const cellWords = (child) =>
  `Child ${child.child + 1}: ${child.state === "DONE" ? percent(child.quality) : child.state === "FAILED" ? `failed, ${child.reason ?? child.failure}` : child.state.toLowerCase()}`;

function cells(segment, most) {
  const children = segment.generations.flatMap((generation) => generation.children);
  const qualities = children.map((child) => child.quality).filter((quality) => quality !== null);
  const range = [Math.min(...qualities), Math.max(...qualities)];
  const later = segment.state === "open" ? Math.max(0, (most ?? 0) - children.length) : 0;
  return h(
    "span",
    { class: "cells", "aria-hidden": "true" },
    segment.generations.map((generation) => h("span", { class: "generation" }, generation.children.map((child) => cell(child, range)))),
    later > 0 && h("span", { class: "generation" }, Array.from({ length: Math.min(later, 64) }, () => h("i", { class: "cell later" }))),
  );
}

/** What cells mean, as far as this run has such. */
function legend(run) {
  const children = every(run);
  const has = (test) => children.some(test);
  const entries = [["", "a child; the stronger, the better"]];
  if (has((child) => child.won)) entries.push(["won", "the winner, by quality and size"]);
  if (has((child) => child.state === "FAILED")) entries.push(["FAILED", "failed"]);
  if (has((child) => child.state === "RUNNING")) entries.push(["RUNNING", "in training"]);
  if (run.state === "open") entries.push(["later", "still to come"]);
  return h("p", { class: "legend cells-legend", "aria-hidden": "true" }, entries.map(([kind, text]) => h("span", {}, h("i", { class: `cell ${kind || "DONE"}` }), text)));
}

/** How far a segment is, and the quality of its winner; until there is one, the best quality so far. */
function told(segment, most) {
  const children = segment.generations.flatMap((generation) => generation.children);
  const done = children.filter((child) => child.state === "DONE" || child.state === "FAILED");
  const failed = children.filter((child) => child.state === "FAILED").length;
  const winner = children.find((child) => child.won);
  const best = winner ? winner.quality : Math.max(-1, ...children.map((child) => child.quality ?? -1));
  const parts = [`${done.length} of ${Math.max(most ?? 0, children.length)}`];
  if (failed) parts.push(`${failed} failed`);
  if (segment.state === "finished" && segment.visit > 0 && !winner) parts.push("the earlier path stays");
  return h("span", { class: "told" }, best >= 0 && h("b", {}, percent(best)), best >= 0 && " · ", parts.join(" · "));
}

/** The runs' part of the page; `load(id, segment)` reads one run, or one segment of it. */
export function showingRuns(load, failed) {
  const place = $("run");
  let runs = [];
  let picked = null;
  let run = null;
  let only = null;
  let drawn = [];
  let at = null;
  let then = [];

  function filter() {
    place.querySelectorAll(".segment").forEach((node) => node.setAttribute("aria-pressed", String(node.dataset.task === only)));
    drawn.forEach((chart) => chart.only(only));
  }

  function head() {
    const options = runs.map((one) => h("option", { value: one.run, selected: one.run === run.run }, `Run ${one.run}`));
    const select = h("select", { "aria-label": "Which run", "data-key": "which", onchange: (event) => pick(Number(event.target.value)).catch(failed) }, options);
    const took = every(run).reduce((sum, child) => sum + child.seconds, 0);
    const facts = [`begun ${moment(run.started_at)}`, `${duration(took)} of training`, plural(every(run).length, "child", "children")];
    return h("div", { class: "run-head" }, runs.length > 1 ? select : h("h3", {}, `Run ${run.run}`), h("span", { class: `state ${run.state}` }, STATES[run.state]), h("span", { class: "facts-line" }, facts.join(" · ")));
  }

  function row(segment) {
    const again = segment.visit > 0 ? ` (visit ${segment.visit + 1})` : "";
    const press = () => {
      only = only === segment.task ? null : segment.task;
      filter();
    };
    const button = h(
      "button",
      { class: `segment ${segment.state}`, type: "button", "aria-pressed": "false", "data-task": segment.task, "data-key": `segment ${segment.index}`, onclick: press },
      h("span", { class: "who" }, badge(segment), h("span", { title: segment.task }, `${segment.task}${again}`)),
      cells(segment, run.children),
      told(segment, run.children),
    );
    return h("li", {}, tone(button, segment.colour));
  }

  function draw() {
    if (!run) {
      replace(place, h("div", { class: "card empty" }, h("h3", {}, "No run yet"), h("p", {}, "Runs appear here while they go on. Begin one:"), h("code", {}, "mutant add sample:digits")));
      return;
    }
    const open = place.querySelector(".every")?.open ?? false;
    const scrolled = place.querySelector(".segments")?.scrollTop ?? 0;
    drawn = charts(run);
    const waiting = h("div", { class: "card empty" }, h("p", {}, "No child has been trained yet; the first ones appear here as they finish."));
    replace(
      place,
      head(),
      h("ol", { class: "card segments", "aria-label": "Segments; choosing one shows its task alone" }, run.segments.map(row)),
      legend(run),
      h("div", { class: "charts" }, drawn.length ? drawn.map((chart) => chart.element) : waiting),
      childrenTable(every(run), open),
    );
    filter();
    place.querySelector(".segments").scrollTop = scrolled;
    if (run.run !== at) {
      const going = place.querySelector(".segment.open");
      if (going) going.closest("ol").scrollTop = going.offsetTop - 120;
    }
    at = run.run;
  }

  /** Read the run `id`: whole, or only those of its segments that have changed since. */
  async function read(id, whole) {
    const summary = runs.find((one) => one.run === id);
    const now = summary.segments.map((segment) => JSON.stringify([segment.states, segment.state, segment.winner]));
    if (whole || run?.run !== id) {
      run = await load(id);
    } else {
      const stale = now.map((_, index) => index).filter((index) => now[index] !== then[index]);
      const parts = await Promise.all(stale.map((index) => load(id, index)));
      const fresh = new Map(parts.flatMap((part) => part.segments.map((segment) => [segment.index, segment])));
      run = { ...run, state: summary.state, ended_at: summary.ended_at, segments: run.segments.map((segment) => fresh.get(segment.index) ?? segment) };
    }
    then = now;
  }

  async function pick(id) {
    picked = id;
    only = null;
    await read(id, true);
    draw();
  }

  return {
    /** All runs anew, and the one that is shown: the latest, unless another was picked since. */
    async runs(found, whole) {
      const latest = runs[0]?.run;
      runs = found.runs;
      const stays = runs[0]?.run === latest && runs.some((one) => one.run === picked);
      picked = stays ? picked : (found.open ?? runs[0]?.run ?? null);
      if (picked === null) run = null;
      else await read(picked, whole);
      draw();
    },
  };
}
