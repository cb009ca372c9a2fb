// An image comes in (dropped, pasted, chosen, or a sample) and every task answers it.

import { showAnswers } from "./answers.js";
import { blob, predict } from "./api.js";
import { $, h, replace } from "./dom.js";
import { plural } from "./format.js";

const MOST_THUMBS = 12;
const SMALL = 160;

/** Everything about asking: give it the tasks and the samples when they change. */
export function asking(failed) {
  const [drop, preview, file, status, list] = ["drop", "preview", "file", "outcome", "answers"].map($);
  let tasks = [];
  let answers = new Map();
  let samples = [];
  let turn = 0;
  let chosen = "";
  let current = null;
  let address = "";

  const show = () => showAnswers(list, tasks, answers);

  function say(text, fault = null) {
    status.classList.toggle("fault", fault !== null);
    replace(status, ...(fault ? [h("strong", {}, fault.message), fault.hint ?? ""] : [text]));
  }

  function look(image) {
    URL.revokeObjectURL(address);
    address = URL.createObjectURL(image);
    preview.onload = () => preview.classList.toggle("small", preview.naturalWidth < SMALL);
    preview.onerror = () => (preview.hidden = true);
    preview.alt = chosen ? `Sample ${chosen}` : (image.name ?? "The image");
    preview.src = address;
    preview.hidden = false;
    drop.classList.add("filled");
    drop.querySelector(".verb").textContent = "Another image";
  }

  async function put(image, sample = "") {
    current?.abort();
    const mine = (current = new AbortController());
    chosen = sample;
    mark();
    look(image);
    say("Asking …");
    list.classList.add("waiting");
    try {
      const found = await predict(image, mine.signal);
      answers = new Map(found.answers.map((answer) => [answer.task, answer]));
      show();
      say(`${plural(found.answers.length, "task")} answered in ${Math.max(1, Math.round(found.timing.total_ms))} ms. Each speaks of its own classes only, so compare labels, not confidence.`);
    } catch (error) {
      if (error.name === "AbortError") return;
      answers = new Map();
      show();
      say("", error);
      failed(error);
    } finally {
      if (mine === current) list.classList.remove("waiting");
    }
  }

  const mark = () =>
    document.querySelectorAll(".thumb").forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.key === chosen)));

  function thumbs() {
    const each = Math.max(1, Math.min(4, Math.floor(MOST_THUMBS / Math.max(1, samples.length))));
    return samples.flatMap((set) =>
      Array.from({ length: Math.min(each, set.images) }, (_, at) => thumb(set, (turn * each + at) % set.images)),
    );
  }

  function thumb(set, index) {
    const url = `/api/samples/${encodeURIComponent(set.task)}/${index}`;
    const name = `${index + 1} of ${set.task}`;
    const image = h("img", { alt: "", width: 58, height: 58 });
    const button = h("button", { class: "thumb", type: "button", "data-key": name, "aria-label": `Sample ${name}`, "aria-pressed": "false", title: `Sample ${name}` }, image);
    let got = null;
    const get = () =>
      (got ??= blob(url).catch((error) => {
        got = null; // so that the next click tries again
        throw error;
      }));
    arrival.observe(button);
    button.arrive = async () => {
      try {
        image.src = URL.createObjectURL(await get());
        image.onload = () => URL.revokeObjectURL(image.src);
      } catch (error) {
        failed(error);
      }
    };
    button.addEventListener("click", async () => {
      try {
        put(new File([await get()], `${set.task}-${index}.png`, { type: "image/png" }), name);
      } catch (error) {
        say("", error);
      }
    });
    return button;
  }

  const arrival = new IntersectionObserver(
    (entries) =>
      entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => {
        arrival.unobserve(target);
        target.arrive();
      }),
    { rootMargin: "200px" },
  );

  function showSamples() {
    const more = samples.some((set) => set.images > 1);
    $("samples").hidden = samples.length === 0;
    replace(
      $("samples"),
      h("div", { class: "head" }, h("span", {}, "Or try a sample"), more && h("button", { class: "link", type: "button", "data-key": "more", onclick: () => { turn += 1; showSamples(); } }, "Others")),
      h("div", { class: samples.length > MOST_THUMBS ? "strip long" : "strip" }, thumbs()),
    );
    mark();
  }

  const image = (data) => [...(data?.files ?? [])].find((one) => one.type.startsWith("image/")) ?? data?.files?.[0];

  file.addEventListener("change", () => {
    if (file.files[0]) put(file.files[0]);
    file.value = "";
  });
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => {
      if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) drop.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    const found = image(event.dataTransfer);
    if (!found) return;
    event.preventDefault();
    put(found);
  });
  document.addEventListener("paste", (event) => {
    const found = image(event.clipboardData);
    if (found) put(found);
  });

  return {
    tasks(found) {
      tasks = found;
      answers = new Map([...answers].filter(([name, answer]) => tasks.some((task) => task.task === name && task.version === answer.version)));
      if (!tasks.length) say("No task has been learnt yet. Add one: mutant add URI");
      else if (!current) say("Choose an image, and each task answers in its own classes.");
      show();
    },
    samples(found) {
      samples = found;
      showSamples();
    },
  };
}
