// A card for each task: what it can tell before there is an image, and what it answered.

import { badge, breakable, h, replace, tone } from "./dom.js";
import { listed, percent, plural } from "./format.js";

const MANY = 8;
const CROWD = 16;
const FEW = 4;
const LONG = 12;

function meter(share) {
  const bar = h("i");
  bar.style.width = `${(100 * share).toFixed(2)}%`;
  return h("div", { class: "meter", "aria-hidden": "true" }, bar);
}

const who = (task) => h("p", { class: "who", title: task.task }, badge(task), h("span", {}, task.task));

function waiting(task) {
  const told = `${plural(task.classes.length, "class", "classes")}: ${listed(task.classes, 8)}`;
  return [who(task), h("p", { class: "waits" }, task.version ? told : "Nothing learnt yet: its run goes on.")];
}

function answered(task, labels) {
  const [first, ...rest] = labels;
  return [
    who(task),
    h("div", { class: "top-label" }, h("b", { class: first.label.length > LONG ? "long" : null, title: first.label }, breakable(first.label)), h("div", { class: "sure" }, meter(first.probability), h("span", {}, percent(first.probability)))),
    h(
      "ol",
      { class: "rest", "aria-label": "Next" },
      rest.map(({ label, probability }) =>
        h("li", {}, h("span", { title: label }, label), meter(probability), h("span", {}, percent(probability))),
      ),
    ),
  ];
}

/** Show every task's card; `answers` by task, where there are any. */
export function showAnswers(list, tasks, answers) {
  list.classList.toggle("few", tasks.length <= FEW);
  list.classList.toggle("many", tasks.length > MANY);
  list.classList.toggle("crowd", tasks.length > CROWD);
  replace(
    list,
    tasks.map((task) => {
      const labels = answers.get(task.task)?.labels;
      const card = h("li", { class: "card answer", "data-task": task.task });
      card.append(...(labels?.length ? answered(task, labels) : waiting(task)));
      return tone(card, task.colour);
    }),
  );
}
