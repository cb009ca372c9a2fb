// The page: reads what there is, shows it, and looks again every few seconds for what is new.

import { access, changes } from "./access.js";
import { changed, forget, read } from "./api.js";
import { asking } from "./ask.js";
import { componentPanel } from "./component.js";
import { $ } from "./dom.js";
import { count, listed, plural } from "./format.js";
import { picturing } from "./picture.js";
import { showingRuns } from "./runs.js";
import { showTasks } from "./tasks.js";

const SEEN_MS = 2000;
const HIDDEN_MS = 20000;
const FAILED_MS = 5000;

let known = null;
let timer = 0;
let open = null;

const byName = () => new Map((known?.tasks ?? []).map((task) => [task.task, task]));
const visitor = access(() => { forget(); look(); });
const admin = changes(() => look());
const panel = componentPanel(byName, (digest) => picture.pick(digest));
const picture = picturing(panel.choose);
const ask = asking(failed);
const runs = showingRuns((id, segment) => read(`/api/runs/${id}${segment === undefined ? "" : `?segment=${segment}`}`), failed);

function failed(error) {
  if (error.status === 401) visitor.enter();
}

function say(state, text) {
  const pulse = $("pulse");
  if (pulse.dataset.state === state && pulse.textContent === text) return;
  pulse.dataset.state = state;
  pulse.textContent = text;
}

function tell(text) {
  $("news").textContent = text;
  setTimeout(() => $("news").textContent === text && ($("news").textContent = ""), 6000);
}

/** What is new among the tasks, in words. */
function fresh(before, now) {
  const names = new Map(before.tasks.map((task) => [task.task, task]));
  const first = now.tasks.filter((task) => task.path !== null && !names.get(task.task)?.path).map((task) => task.task);
  const better = now.tasks.filter((task) => names.get(task.task)?.path && names.get(task.task).path !== task.path).map((task) => task.task);
  const gone = before.tasks.filter((task) => !now.tasks.some((one) => one.task === task.task)).map((task) => task.task);
  const told = [];
  if (first.length) told.push(`${listed(first, 3)} ${first.length === 1 ? "answers" : "answer"} now`);
  if (better.length) told.push(`${listed(better, 3)} evolved`);
  if (gone.length) told.push(`${listed(gone, 3)} removed`);
  return told;
}

function showSystem({ system, tasks }) {
  const learnt = tasks.filter((task) => task.path !== null).length;
  $("system").textContent = learnt
    ? `One image in, ${learnt === 1 ? "its task’s answer" : `${learnt} answers`} out: ${plural(learnt, "task")} in one model of ${count(system.parameters_used)} parameters, grown from ${system.root}.`
    : `The root ${system.root} waits for its first task.`;
  $("foot").textContent = `Grown from ${system.root}: ${plural(system.depth, "block")}, images of ${system.image_size} pixels.`;
}

/** Read what has changed, and show it. */
async function refresh() {
  const found = { runs: await changed("/api/runs"), tasks: null, model: null, samples: null };
  if (found.runs === null) return;
  const news = [];
  [found.tasks, found.model, found.samples] = await Promise.all(["/api/tasks", "/api/model", "/api/samples"].map(changed));
  if (found.tasks) {
    if (known) news.push(...fresh(known, found.tasks));
    known = found.tasks;
    showSystem(known);
    showTasks(known, visitor.scope() === "admin" ? admin : null);
    ask.tasks(known.tasks);
  }
  if (found.model) {
    picture.model(found.model);
    panel.refresh();
  }
  if (found.samples) ask.samples(found.samples.samples);
  await runs.runs(found.runs, found.model !== null);
  if (open !== null && open !== found.runs.open) news.unshift(`Run ${open} has ended`);
  open = found.runs.open;
  if (news.length) tell(`${news.join("; ")}.`);
}

async function look() {
  clearTimeout(timer);
  let wait = document.hidden ? HIDDEN_MS : SEEN_MS;
  try {
    if (!known && !(await visitor.learn())) {
      say("down", "Needs a key");
      return visitor.enter();
    }
    await refresh();
    say(open === null ? "up" : "live", open === null ? "Up to date" : `Run ${open} goes on`);
  } catch (error) {
    forget();
    wait = FAILED_MS;
    say("down", error.status === 401 ? "Needs a key" : error.status === 0 ? "No connection" : error.message ?? "Something went wrong");
    if (error.status === 401) return visitor.enter();
    if (error.status === undefined) console.error(error);
  }
  clearTimeout(timer);
  timer = setTimeout(look, wait);
}

document.addEventListener("visibilitychange", () => document.hidden || look());

const links = [...document.querySelectorAll(".top nav a")];
const watch = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      links.forEach((link) => (link.hash === `#${target.id}` ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
    }
  },
  { rootMargin: "-35% 0px -60% 0px" },
);
document.querySelectorAll("main > section").forEach((section) => watch.observe(section));

look();
