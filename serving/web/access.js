// Keys and changes: asks for a key where one is needed, and lets an admin take tasks out and ask them back.

import { act, key, read } from "./api.js";
import { $, h } from "./dom.js";

function dialog(title, ...content) {
  const box = h("dialog", { "aria-label": title });
  box.append(...content.flat().filter(Boolean));
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
  return box;
}

/** Ask something and give the answer: true, or false when the visitor would rather not. */
export function confirmed(title, text, verb) {
  return new Promise((answer) => {
    const no = h("button", { class: "plain", type: "submit", value: "no" }, "Cancel");
    const yes = h("button", { class: "strong", type: "submit", value: "yes" }, verb);
    const box = dialog(title, h("form", { method: "dialog" }, h("h3", {}, title), h("p", {}, text), h("div", { class: "row" }, no, yes)));
    box.addEventListener("close", () => answer(box.returnValue === "yes"));
  });
}

/** Say what went wrong, where it cannot be said in place. */
export function complain(error) {
  dialog("That did not work", h("form", { method: "dialog" }, h("h3", {}, "That did not work"), h("p", { class: "fault" }, h("strong", {}, error.message), error.hint ?? ""), h("div", { class: "row" }, h("button", { class: "strong", type: "submit" }, "Close"))));
}

/** Who is asking: `scope()` is null, "read" or "admin"; `enter()` asks for a key and then calls `entered`. */
export function access(entered) {
  const button = $("key");
  let scope = null;
  let keys = false;
  let asking = false;

  async function learn() {
    ({ scope, keys } = await read("/whoami"));
    button.hidden = !keys;
    button.textContent = scope === null ? "Enter API key" : scope === "admin" ? "Admin key" : "API key";
    return !keys || scope !== null;
  }

  function enter(why = "This server answers who has an API key. It stays in this tab until you close it.") {
    if (asking) return;
    asking = true;
    const input = h("input", { type: "password", name: "key", autocomplete: "off", "aria-label": "API key", required: true, spellcheck: "false" });
    const forget = key.get() && h("button", { class: "plain", type: "button", onclick: () => done("") }, "Forget it");
    const form = h("form", { method: "dialog" }, h("h3", {}, "API key"), h("p", { class: "note" }, why), input, h("div", { class: "row" }, forget, h("button", { class: "strong", type: "submit" }, "Use this key")));
    const box = dialog("API key", form);
    box.addEventListener("close", () => (asking = false));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      done(input.value.trim());
    });

    async function done(value) {
      key.set(value);
      const known = await learn().catch(() => false);
      asking = false;
      box.close();
      if (known) entered();
      else if (value) {
        key.set("");
        enter("The server does not know this key. Try another.");
      } else location.reload();
    }
  }

  button.addEventListener("click", () => enter());
  return { learn, enter, scope: () => scope };
}

/** What an admin can do with tasks; `after` is called when something was changed. */
export function changes(after) {
  const url = (task, more) => `/tasks/${encodeURIComponent(task)}${more}`;

  async function change(method, address) {
    try {
      await act(method, address);
      after();
    } catch (error) {
      complain(error);
    }
  }

  /** Take a task out; when others build on it, only after that was heard. */
  async function remove(task) {
    const text = "It answers no more. It can be brought back until its weights are collected.";
    if (!(await confirmed(`Remove ${task}?`, text, "Remove"))) return;
    try {
      await act("DELETE", url(task, ""));
      after();
    } catch (error) {
      if (error.status !== 409) return complain(error);
      if (await confirmed(`Remove ${task} all the same?`, error.message, "Remove all the same")) change("DELETE", url(task, "?force=true"));
    }
  }

  return { remove, restore: (task) => change("POST", url(task, "/restore")) };
}
