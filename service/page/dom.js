// Build and find elements of the page, and show its sections.

const SVG = "http://www.w3.org/2000/svg";
const SECTIONS = ["drop", "plan", "progress", "shared", "answer", "compare", "cells"];

export const byId = (id) => document.getElementById(id);

/** Create an HTML element; `true` sets an attribute without a value, `false` and `null` leave it out. */
export function element(name, attributes = {}, ...children) {
  const created = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) created.setAttribute(key, "");
    else if (value !== false && value != null) created.setAttribute(key, value);
  }
  created.append(...children.filter((child) => child != null));
  return created;
}

/** Create an SVG element. */
export function svg(name, attributes = {}, ...children) {
  const created = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
  created.append(...children);
  return created;
}

/** Return a picture from the base64 PNG that the service sends, a grey area where none was kept. */
export function picture(png, attributes = {}) {
  if (!png) return element("span", { class: "no-picture", title: "Only the pictures of the first cells are kept" });
  return element("img", { src: `data:image/png;base64,${png}`, alt: "", ...attributes });
}

/** Show these sections and hide the others. */
export function showSections(...ids) {
  for (const id of SECTIONS) byId(id).hidden = !ids.includes(id);
}

/** Show an error above everything else; an empty message removes it. */
export function showProblem(message) {
  byId("problem").textContent = message;
  byId("problem").hidden = !message;
}

/** Fill a select with an entry for all and one for every value; keep the choice where it still exists. */
export function fillFilter(select, values) {
  const chosen = select.value;
  select.replaceChildren(
    element("option", { value: "" }, "all"),
    ...values.map((value) => element("option", { value }, value)),
  );
  select.value = values.includes(chosen) ? chosen : "";
}
