// Elements made by hand, and the numbered badge that stands for a task on every picture.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "text") element.textContent = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An HTML element: h("p", { class: "lead", onclick: f }, "text", ...). */
export const h = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);

/** An SVG element. */
export const s = (tag, properties, ...children) => fill(document.createElementNS(SVG, tag), properties, children);

/** The element with this id. */
export const $ = (id) => document.getElementById(id);

/** Put new children into an element; the focus stays on what has the same `data-key`. */
export function replace(element, ...children) {
  const active = document.activeElement;
  const key = active && element.contains(active) ? active.closest("[data-key]")?.dataset.key : undefined;
  element.replaceChildren(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  if (key !== undefined) element.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

function luminance(rgb) {
  const [r, g, b] = rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Black or white, whichever has the greater contrast on a colour (WCAG): at least 4.5 : 1 on any. */
export const inkOn = (rgb) => (luminance(rgb) > 0.179 ? "#000000" : "#ffffff");

const lifted = (rgb) => rgb.map((c) => Math.round(c + (255 - c) * 0.2));

/** Give an element its task's colour, lighter in the dark: `--tone` and, for what is written on it, `--on`. */
export function tone(element, colour) {
  const [light, dark] = [channels(colour), lifted(channels(colour))];
  element.classList.add("tone");
  element.style.setProperty("--tone-light", `rgb(${light.join(" ")})`);
  element.style.setProperty("--tone-dark", `rgb(${dark.join(" ")})`);
  element.style.setProperty("--on-light", inkOn(light));
  element.style.setProperty("--on-dark", inkOn(dark));
  return element;
}

/** The number of a task in its colour. */
export const badge = ({ number, colour }) => tone(h("span", { class: "badge", "aria-hidden": "true" }, String(number)), colour);

/** A name of the form `long_task_name` that may break after its parts. */
export const breakable = (name) => name.split(/(?<=[_.-])/).flatMap((part, at) => (at ? [h("wbr"), part] : [part]));
