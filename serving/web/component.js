// What is known of one component: who made it and from what, and who would break without it.

import { read } from "./api.js";
import { $, badge, h, replace } from "./dom.js";
import { count, plural, short } from "./format.js";

const name = (slot) => slot.replace("position_embedding", "position").replace(/_0*(\d)/, " $1").replace(/_/g, " ");

/** The panel. `tasks()` gives the tasks by name; `pick(digest)` chooses another component. */
export function componentPanel(tasks, pick) {
  const panel = $("component");
  let wanted = null;

  const whose = (task) => {
    const known = tasks().get(task);
    return h("span", { class: "inline" }, known && badge(known), task);
  };

  function facts(pairs) {
    return h("dl", { class: "facts" }, pairs.filter(([, value]) => value).flatMap(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]));
  }

  function from(source) {
    if (!source) return "fresh: it began from nothing";
    const link = h("button", { class: "link mono", type: "button", onclick: () => pick(source.component) }, short(source.component));
    return [link, source.task ? ` of ${source.task}` : " of the root"];
  }

  function blame(found) {
    const { task, place, source, path, origin, licence } = found.blame;
    if (task === null) {
      return [h("p", {}, "Pretrained: it came with the root, and no task has changed it."), facts([["Source", origin], ["Licence", licence]])];
    }
    const where = place ? `run ${place.run}, generation ${place.generation + 1}, child ${place.child + 1}` : "another system, and was imported";
    return [
      h("p", {}, "Trained by ", whose(task), ` in ${where}.`),
      facts([["Cloned from", from(source)], ["By path", h("span", { class: "mono" }, short(path))]]),
    ];
  }

  function impact(found) {
    const { users } = found.impact;
    const broken = users.filter((user) => user.slot !== null);
    const all = tasks().size;
    const words = broken.length ? `${broken.length} of ${plural(all, "task")} ${broken.length === 1 ? "breaks" : "break"} without it.` : "No task’s answer needs it.";
    const rows = [...broken, ...users.filter((user) => user.slot === null)].map((user) => {
      const known = tasks().get(user.task);
      return h(
        "li",
        { class: user.slot === null ? "unbroken" : null },
        known ? badge(known) : h("span", { class: "badge" }, "·"),
        h("span", { title: user.task }, user.task),
        h("small", {}, user.slot === null ? `${plural(user.paths, "path")}, not its best` : plural(user.paths, "path")),
      );
    });
    return [h("p", {}, words), rows.length > 0 && h("ol", { class: "users" }, rows)];
  }

  function show(found) {
    const settings = Object.entries(found.settings).map(([term, value]) => [term.replace(/_/g, " "), value]);
    replace(
      panel,
      h(
        "header",
        {},
        h("div", {}, h("h3", {}, name(found.slot)), h("p", {}, `${found.kind} · ${count(found.parameters)} parameters`)),
        h("button", { class: "close", type: "button", "aria-label": "Close", "data-key": "close", onclick: () => pick(null) }, "×"),
      ),
      h("section", { "data-part": "blame" }, h("h4", {}, "Who made it"), blame(found)),
      h("section", { "data-part": "impact" }, h("h4", {}, "Who needs it"), impact(found)),
      h("section", {}, h("h4", {}, "What it is"), facts([["Component", h("span", { class: "mono", title: found.digest }, short(found.digest))], ["Weights", found.blame.weights], ...settings])),
    );
  }

  const blank = () => replace(panel, h("p", { class: "blank" }, "Choose a component in the picture to see who made it, and who needs it."));

  /** Show this component, or none for null. */
  async function choose(box) {
    wanted = box?.digest ?? null;
    if (wanted === null) return blank();
    const mine = wanted;
    try {
      const found = await read(`/api/components/${mine}`);
      if (mine === wanted) show(found);
    } catch (error) {
      if (mine === wanted) replace(panel, h("p", { class: "fault" }, h("strong", {}, error.message), error.hint ?? ""));
    }
  }

  panel.addEventListener("keydown", (event) => event.key === "Escape" && pick(null));
  blank();
  return { choose, refresh: () => wanted !== null && choose({ digest: wanted }) };
}
