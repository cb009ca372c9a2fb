// The tasks: what each reached and costs; with an admin's key, taking one out and asking it back.

import { $, badge, h, replace, tone } from "./dom.js";
import { count, duration, energy, flops, percent, plural, points, short } from "./format.js";

function shared(task) {
  if (task.shared === null) return percent(null);
  const bar = h("i");
  bar.style.width = `${(100 * task.shared).toFixed(1)}%`;
  return [percent(task.shared), h("br"), h("span", { class: "share", "aria-hidden": "true" }, bar)];
}

function tested(task) {
  if (task.test_accuracy === null || task.head_only_test_accuracy === null) return percent(task.test_accuracy);
  const gain = task.test_accuracy - task.head_only_test_accuracy;
  return [percent(task.test_accuracy), h("small", { class: gain > 0.0005 ? "good" : null }, `${points(gain)} vs head alone`)];
}

const accounted = (task) => (task.parameters === null ? count(null) : [count(task.accounted_parameters), h("small", {}, `of ${count(task.parameters)}`)]);

const ENERGY = ["Energy", (task) => energy(task.energy_joules), "What its training drew, where it was measured"];

const COLUMNS = [
  ["Validation", (task) => percent(task.validation_accuracy)],
  ["Test", tested, "Below it: points of accuracy against a head alone on the root"],
  ["Accounted", accounted, "Parameters; what is shared counts by its share"],
  ["Shared", shared, "The share of its parameters that it takes frozen from the root or other tasks"],
  ["Compute", (task) => (task.flops === null ? flops(null) : [flops(task.flops), h("small", {}, "an image")])],
  ["Training", (task) => duration(task.seconds)],
  ENERGY,
  ["Version", (task) => h("span", { class: "mono", title: task.version }, short(task.version))],
];

const FIRST = 20;
let all = false;

/** The columns that have something to tell: energy is measured on few machines. */
const columnsFor = (tasks) => COLUMNS.filter((column) => column !== ENERGY || tasks.some((task) => task.energy_joules !== null));

function row(task, columns, act) {
  const cells = columns.map(([label, write]) => h("td", { "data-label": label, role: "cell" }, h("span", {}, write(task))));
  const classes = h("details", {}, h("summary", { "data-key": `classes ${task.task}` }, plural(task.classes.length, "class", "classes")), h("p", { tabindex: 0 }, task.classes.join(", ")));
  const title = h("th", { scope: "row", role: "rowheader" }, h("span", { class: "title" }, badge(task), task.task), classes);
  const remove = act && h("td", { role: "cell" }, h("button", { class: "plain danger", type: "button", "data-key": `remove ${task.task}`, "aria-label": `Remove ${task.task}`, onclick: () => act.remove(task.task) }, "Remove"));
  return tone(h("tr", { role: "row", "data-task": task.task }, title, cells, remove), task.colour);
}

/** Show the tasks; `act` has `remove` and `restore` for an admin, else null. */
export function showTasks(view, act) {
  const { system, tasks, removed } = view;
  const learnt = tasks.filter((task) => task.path !== null).length;
  const apart = learnt > 1 ? `; ${learnt} separate models would have ${count(system.parameters_apart)}` : "";
  $("tasks-lead").textContent = `${plural(tasks.length, "task")} in ${count(learnt ? system.parameters_used : system.parameters)} parameters${apart}.`;
  if (!tasks.length && !(act && removed.length)) {
    replace($("table"), h("div", { class: "card empty" }, h("h3", {}, "No task yet"), h("p", {}, "The root is ready to grow. Add a first task:"), h("code", {}, "mutant add sample:digits")));
    return;
  }
  const columns = columnsFor(tasks);
  const heads = [h("th", { scope: "col", role: "columnheader" }, "Task"), ...columns.map(([label, , title]) => h("th", { scope: "col", role: "columnheader", title }, label))];
  if (act) heads.push(h("th", { scope: "col", role: "columnheader" }, "Change"));
  const open = new Set([...$("table").querySelectorAll("tr details[open]")].map((one) => one.closest("tr").dataset.task));
  const shown = all || tasks.length <= FIRST + 2 ? tasks : tasks.slice(0, FIRST);
  const rows = shown.map((task) => row(task, columns, act));
  const rest = shown.length < tasks.length && h("div", { class: "removed" }, h("button", { class: "plain", type: "button", onclick: () => { all = true; showTasks(view, act); } }, `Show all ${tasks.length} tasks`));
  rows.filter((one) => open.has(one.dataset.task)).forEach((one) => (one.querySelector("details").open = true));
  replace(
    $("table"),
    h(
      "div",
      { class: "card known" },
      h("table", { role: "table" }, h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)), h("tbody", { role: "rowgroup" }, rows)),
      rest,
      act && removed.length > 0 && h(
        "div",
        { class: "removed" },
        "Removed:",
        removed.map((name) => h("button", { class: "plain", type: "button", "data-key": `restore ${name}`, onclick: () => act.restore(name) }, `Bring ${name} back`)),
      ),
    ),
  );
}
