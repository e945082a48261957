// The table in which people give samples their roles, as in a spreadsheet: Enter goes down, cells of one are pasted.

import { element } from "./dom.js";
import { agree } from "./format.js";
import { parseTable } from "./plate-map.js";
import { readRoles, ROLES, toNumber } from "./roles.js";

const NAMES = { condition: "Condition", replicate: "Replicate", day: "Day", dose: "Dose", donor: "Donor" };
const NUMBERS = new Set(["day", "dose"]);
const EXAMPLES = { condition: "control", replicate: "1", day: "3", dose: "10 µM", donor: "A" };
const MAX_ROWS = 200;

/** Return what the table shows of a role. */
export function toText(roles, role) {
  if (role === "dose" && roles.unit && roles.dose !== null) return `${roles.dose} ${roles.unit}`;
  return String(roles[role] ?? "");
}

/** Take what was typed as a role, a dose without a unit in `unit`; return whether it could be read. */
export function setRole(roles, role, typed, unit = null) {
  const text = typed.trim();
  if (!NUMBERS.has(role)) {
    roles[role] = text || (role === "condition" ? "" : null);
    return true;
  }
  const plain = toNumber(text);
  const read = plain === null ? readRoles(text) : { [role]: plain, unit: roles.unit ?? unit };
  roles[role] = read[role] ?? null;
  if (role === "dose") roles.unit = roles.dose === null ? null : read.unit;
  return !text || roles[role] !== null;
}

export class RoleTable {
  /** onChange() is called after a person has changed a role. */
  constructor(table, suggestions, onChange) {
    Object.assign(this, { table, suggestions, onChange, roles: new Map() });
    table.addEventListener("change", ({ target }) => {
      take(target, this.roles);
      onChange();
    });
    table.addEventListener("keydown", move);
    table.addEventListener("paste", (event) => this.paste(event));
  }

  /** Show roles, a Map of sample → roles, which the table changes. */
  show(roles) {
    this.roles = roles;
    const samples = [...roles.keys()].slice(0, MAX_ROWS);
    const more = roles.size - samples.length;
    const header = ["Sample", ...ROLES.map((role) => NAMES[role])].map((name) => element("th", { scope: "col" }, name));
    const rows = samples.map((sample) => {
      const fields = ROLES.map((role) => element("td", {}, input(sample, role, roles.get(sample))));
      return element("tr", {}, element("th", { scope: "row" }, sample), ...fields);
    });
    const others = agree(more, "the other one its roles", `the ${more} others their roles`);
    const note = `The first ${MAX_ROWS} samples; give ${others} in a plate map.`;
    this.table.replaceChildren(
      more > 0 ? element("caption", {}, note) : "",
      element("thead", {}, element("tr", {}, ...header)),
      element("tbody", {}, ...rows),
    );
    const conditions = new Set([...roles.values()].map(({ condition }) => condition).filter(Boolean));
    this.suggestions.replaceChildren(...[...conditions].map((value) => element("option", { value })));
  }

  /** Show the roles again that could be read, after a change of them. */
  update() {
    for (const field of this.table.querySelectorAll("input:not([aria-invalid=true])")) {
      const text = toText(this.roles.get(field.dataset.sample), field.dataset.role);
      // Whoever types in it goes on.
      if (field !== document.activeElement) field.value = text;
    }
  }

  // Cells of a spreadsheet, from the field that has the focus to the right and down.
  paste(event) {
    const text = event.clipboardData.getData("text/plain").replace(/\r?\n$/, "");
    if (!/[\t\n]/.test(text)) return;
    event.preventDefault();
    const row = event.target.closest("tr");
    const all = [...row.parentElement.children];
    const rows = all.slice(all.indexOf(row));
    const left = fieldsOf(row).indexOf(event.target);
    const cells = text.includes("\t") ? parseTable(text) : text.split(/\r?\n/).map((line) => [line]);
    for (const [i, values] of cells.entries()) {
      for (const [j, value] of values.entries()) {
        const field = rows[i] && fieldsOf(rows[i])[left + j];
        if (!field) continue;
        field.value = value;
        take(field, this.roles);
      }
    }
    this.onChange();
  }
}

const input = (sample, role, roles) =>
  element("input", {
    value: toText(roles, role),
    "aria-label": `${NAMES[role]} of ${sample}`,
    "data-sample": sample,
    "data-role": role,
    placeholder: EXAMPLES[role],
    autocomplete: "off",
    list: role === "condition" && "conditions",
  });

function take(field, roles) {
  const { sample, role } = field.dataset;
  const its = roles.get(sample);
  const unit = [...roles.values()].find((other) => other.unit)?.unit;
  const readable = setRole(its, role, field.value, unit);
  field.setAttribute("aria-invalid", String(!readable));
  field.title = readable ? "" : `Not a number; write it as ${EXAMPLES[role]}`;
  if (readable) field.value = toText(its, role);
}

const fieldsOf = (row) => [...row.querySelectorAll("input")];

function move(event) {
  const steps = { Enter: event.shiftKey ? -1 : 1, ArrowDown: event.altKey ? 0 : 1, ArrowUp: event.altKey ? 0 : -1 };
  const step = steps[event.key];
  // Condition has suggestions, through which the arrow keys go.
  if (!step || (event.key !== "Enter" && event.target.list)) return;
  event.preventDefault();
  const row = event.target.closest("tr");
  const next = step > 0 ? row.nextElementSibling : row.previousElementSibling;
  if (next) fieldsOf(next)[fieldsOf(row).indexOf(event.target)].focus();
  else event.target.dispatchEvent(new Event("change", { bubbles: true }));
}
