// The model's picture: rows by depth, a column and a coloured route for each task. One stop of the Tab key; arrows move.

import { $, badge, breakable, h, replace, s, tone } from "./dom.js";
import { brief, count, listed, percent, plural } from "./format.js";
import { columnsOf, LABELS, layout, nearRoute, step } from "./picture_layout.js";

const ARROWS = ["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"];
const EDGE = 20;

function path(route) {
  const top = Math.min(...route.ys) - 14;
  return `M${route.x} ${Math.max(...route.ys)}V${Math.max(-2, top)}`;
}

function drawRoute(route) {
  const d = path(route);
  const dots = route.ys.map((y) => s("circle", { cx: route.x, cy: y, r: 3.6 }));
  const lines = ["halo", "line", "flow"].map((name) => s("path", { class: name, d }));
  return tone(s("g", { class: "route", "data-task": route.task }, lines, dots), route.colour);
}

/** What a box says to who cannot see it. */
function told(box, users) {
  const whose = box.task === null ? "pretrained" : `trained by ${box.task}`;
  const used = users.length ? `, used by ${listed(users, 6)}` : "";
  return `${box.name}, ${whose}, ${count(box.parameters)} parameters${used}`;
}

function drawBox(box, users) {
  const label = told(box, users);
  const round = (shape, more) => s("rect", { ...shape, rx: Math.min(6, shape.height / 2), ...more });
  const [first] = box.parts;
  const ring = box.parts.map((part) =>
    s("rect", { class: "ring", x: part.x - 2.5, y: part.y - 2.5, width: part.width + 5, height: part.height + 5, rx: 8 }),
  );
  const numbers = box.number === null ? [] : box.parts.filter((part) => part.width > 44).map((part) =>
    s("text", { x: part.x + 7, y: first.y + first.height / 2 + 3.8 }, String(box.number)),
  );
  const group = s(
    "g",
    { class: box.task === null ? "box pretrained" : "box", role: "button", tabindex: -1, "aria-pressed": "false", "aria-label": label, "data-digest": box.digest, "data-key": `${box.slot} ${box.digest}` },
    s("title", {}, label),
    box.bridges.map((bridge) => s("rect", bridge)),
    box.parts.map((part) => round(part)),
    numbers,
    ring,
  );
  return box.task === null ? group : tone(group, box.colour);
}

function drawHead(route, plan) {
  const left = route.x - (plan.width - plan.columnGap) / 2;
  const known = route.test_accuracy ?? route.validation_accuracy;
  const of = route.test_accuracy === null ? "validation" : "test";
  const head = h(
    "button",
    { type: "button", tabindex: -1, "data-task": route.task, "data-key": `head ${route.task}`, "aria-pressed": "false", title: `${route.task}: ${of} ${percent(known)}, ${count(route.accounted_parameters)} parameters accounted`, "aria-label": `Path of ${route.task}, ${of} accuracy ${percent(known)}` },
    badge(route),
    h("span", { class: "name" }, breakable(route.task)),
    h("span", { class: "of" }, `${of === "test" ? "" : "val "}${percent(known)}`),
  );
  head.style.left = `${left - 4}px`;
  head.style.width = `${plan.width - plan.columnGap + 8}px`;
  return tone(head, route.colour);
}

function names(model, plan, headRoom) {
  const column = h("div", { class: "names", "aria-hidden": "true" });
  model.rows.forEach((row, index) => {
    const sizes = [...new Set(row.boxes.map((box) => box.parameters))].sort((a, b) => a - b);
    const told = sizes.length > 1 ? `${brief(sizes[0])}–${brief(sizes.at(-1))}` : brief(sizes[0] ?? row.parameters);
    const faint = row.kind === "adapter" || !row.boxes.length ? "faint" : "";
    for (const [kind, text] of [["", row.name], ["size", told]]) {
      const label = h("span", { class: `${kind} ${faint}`.trim(), "data-row": index }, text);
      label.style.top = `${headRoom + plan.places[index].middle}px`;
      column.append(label);
    }
  });
  return column;
}

function legend(model) {
  const boxes = model.rows.flatMap((row) => row.boxes);
  const entries = [["", "pretrained root"]];
  if (boxes.some((box) => box.task !== null)) entries.push(["trained", "trained by the task with this number"]);
  if (model.rows.some((row) => row.kind === "adapter")) entries.push(["adapter", "adapter"]);
  if (boxes.some((box) => columnsOf(box).length > 1)) entries.push(["shared", "one component, shared by all it spans"]);
  return h("div", { class: "legend", "aria-hidden": "true" }, entries.map(([kind, text]) => h("span", {}, h("i", { class: kind }), text)));
}

/** The picture. `choose(box)` is called when a component is chosen, and with null when it is no more. */
export function picturing(choose) {
  const card = $("picture");
  let model = null;
  let plan = null;
  let chosen = null;
  const lit = { hover: null, focus: null, pinned: null };

  const nodes = (query) => [...card.querySelectorAll(query)];
  const usersOf = (box) => columnsOf(box).map((column) => plan.routes[column]?.task).filter(Boolean);

  function light() {
    const task = lit.hover ?? lit.focus ?? lit.pinned;
    const place = plan.routes.findIndex((route) => route.task === task);
    card.classList.toggle("lit", place >= 0);
    card.dataset.lit = place >= 0 ? task : "";
    const rows = new Set(place >= 0 ? plan.routes[place].rows : []);
    const on = new Set(plan.boxes.filter((box) => columnsOf(box).includes(place)).map((box) => `${box.slot} ${box.digest}`));
    nodes(".box").forEach((node) => node.classList.toggle("on", on.has(node.dataset.key)));
    nodes(".route, .heads button").forEach((node) => node.classList.toggle("on", node.dataset.task === task));
    nodes(".names span").forEach((node) => node.classList.toggle("on", rows.has(Number(node.dataset.row))));
    nodes(".heads button").forEach((node) => node.setAttribute("aria-pressed", String(node.dataset.task === lit.pinned)));
  }

  function mark() {
    nodes(".box").forEach((node) => node.setAttribute("aria-pressed", String(node.dataset.digest === chosen)));
  }

  /** Make one node the picture's stop of the Tab key. */
  function stop(node) {
    nodes("[tabindex='0']").forEach((one) => one.setAttribute("tabindex", "-1"));
    node?.setAttribute("tabindex", "0");
  }

  function pick(digest) {
    chosen = digest;
    mark();
    choose(digest === null ? null : plan.boxes.find((box) => box.digest === digest) ?? { digest });
  }

  function pin(task) {
    lit.pinned = lit.pinned === task ? null : task;
    light();
  }

  function go(node) {
    if (!node) return;
    stop(node);
    node.focus();
    node.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  const nodeOf = (box) => card.querySelector(`.box[data-key="${CSS.escape(`${box.slot} ${box.digest}`)}"]`);
  const headOf = (column) => nodes(".heads button")[column];
  let column = 0;

  function moveFrom(node, key) {
    if (node.matches(".heads button")) {
      column = nodes(".heads button").indexOf(node);
      if (key === "ArrowDown") return nodeOf(plan.boxes.filter((box) => columnsOf(box).includes(column)).at(-1));
      return key === "ArrowUp" ? null : headOf(column + (key === "ArrowRight" ? 1 : -1));
    }
    const box = plan.boxes.find((one) => `${one.slot} ${one.digest}` === node.dataset.key);
    if (!columnsOf(box).includes(column)) [column] = columnsOf(box);
    const found = step(plan, box, column, key);
    if (found) column = found.column;
    return found ? nodeOf(found.box) : key === "ArrowUp" ? headOf(column) : null;
  }

  function onKey(event) {
    const node = event.target.closest(".box, .heads button");
    if (!node) return;
    if (ARROWS.includes(event.key)) {
      event.preventDefault();
      go(moveFrom(node, event.key));
    } else if (event.key === "Home" || event.key === "End") {
      event.preventDefault();
      go(headOf(event.key === "Home" ? 0 : plan.routes.length - 1));
    } else if ((event.key === "Enter" || event.key === " ") && node.matches(".box")) {
      event.preventDefault();
      pick(node.dataset.digest);
    } else if (event.key === "Escape") {
      lit.pinned = null;
      light();
      pick(null);
    }
  }

  function onPointer(event) {
    const head = event.target.closest?.(".heads button");
    const svg = card.querySelector("svg");
    const x = event.clientX - svg.getBoundingClientRect().left;
    const found = head?.dataset.task ?? (event.target.closest?.("svg") ? nearRoute(plan, x) : null);
    if (found === lit.hover) return;
    lit.hover = found;
    light();
  }

  card.addEventListener("keydown", (event) => plan && onKey(event));
  card.addEventListener("pointermove", (event) => plan && event.pointerType !== "touch" && onPointer(event));
  card.addEventListener("pointerleave", () => plan && ((lit.hover = null), light()));
  card.addEventListener("focusin", (event) => {
    const head = event.target.closest(".heads button");
    lit.focus = head?.matches(":focus-visible") ? head.dataset.task : null;
    stop(event.target.closest(".box, .heads button") ?? undefined);
    light();
  });
  card.addEventListener("focusout", (event) => {
    if (card.contains(event.relatedTarget)) return;
    lit.focus = null;
    light();
  });
  card.addEventListener("click", (event) => {
    const head = event.target.closest(".heads button");
    const box = event.target.closest(".box");
    if (head) pin(head.dataset.task);
    if (box) pick(box.dataset.digest === chosen ? null : box.dataset.digest);
    if (chosen && matchMedia("(max-width: 620px)").matches) box?.scrollIntoView({ block: "start", inline: "nearest" });
  });

  function draw() {
    if (!model) return;
    const scrolled = card.querySelector(".scroll")?.scrollLeft ?? 0;
    const kept = card.querySelector("[tabindex='0']")?.dataset.key;
    const labels = card.clientWidth < 560 ? LABELS.narrow : LABELS.wide;
    plan = layout(model, card.clientWidth - labels - EDGE);
    const many = plan.routes.length > 0;
    const unused = many && model.rows.some((row) => !row.boxes.length) ? " Rows without a box are parts of the root that no task uses." : "";
    const headRoom = many ? 86 : 0;
    const left = names(model, plan, headRoom);
    left.style.width = `${labels}px`;
    const svg = s("svg", { width: plan.total, height: plan.height, role: "group", "aria-label": "Components, the answer's end at the top" });
    svg.append(...plan.boxes.map((box) => drawBox(box, usersOf(box))), ...plan.routes.map(drawRoute));
    const heads = many && h("div", { class: "heads", role: "group", "aria-label": "Paths of the tasks" }, plan.routes.map((route) => drawHead(route, plan)));
    const scroll = h("div", { class: "scroll" }, left, h("div", { class: "field" }, heads, svg));
    replace(card, scroll, legend(model), h("p", { class: "hint" }, many ? `Hover or focus a task to light its path; choose a component to see whose it is. Arrow keys move.${unused}` : "The pretrained root, before any task."));
    scroll.style.scrollPaddingLeft = `${labels}px`; // what comes into view does not end up under the names
    scroll.scrollLeft = scrolled;
    stop(card.querySelector(kept ? `[data-key="${CSS.escape(kept)}"]` : ".heads button, .box") ?? card.querySelector(".heads button, .box"));
    mark();
    light();
  }

  let wide = 0;
  new ResizeObserver(() => {
    if (card.clientWidth === wide) return;
    wide = card.clientWidth;
    draw();
  }).observe(card);

  return {
    model(found) {
      model = found;
      if (!model.columns.some((one) => one.task === lit.pinned)) lit.pinned = null;
      draw();
      $("model-lead").textContent = model.columns.length
        ? `Grown from ${model.root}: ${plural(model.columns.length, "path")} through one pool of components. An image goes in at the bottom, answers come out at the top.`
        : `The pretrained root ${model.root}. Tasks will grow on it.`;
    },
    pick,
    pin,
  };
}
