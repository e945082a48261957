// A paragraph about a sample: what the service is told for it, and the button that asks.

import { postJSON } from "./api.js";
import { element } from "./dom.js";
import { countCells } from "./downloads.js";
import { descriptionSource } from "./sentences.js";
import { countLossy, sizeMessages } from "./warnings.js";

/** Return what /describe takes of a sample { cells, summary }: figures alone, and neither names nor images. */
export function describedSample(run, name, { cells, summary, excludesOutside, followed }) {
  const unreadable = run.unreadable.filter((cell) => cell.sample === name);
  return {
    task: run.model.task,
    version: run.lastResponse.model.version,
    culture: {
      ...countCells(cells, unreadable, run.model),
      composition: summary.composition,
      outside_excluded: Boolean(excludesOutside),
      differences: summary.differences.map(({ figure, here, known }) => ({ figure, here, known })),
      lossy: countLossy(cells),
      followed: followed ?? 0,
      unusual_sizes: sizeMessages(cells).length,
    },
  };
}

/** Return the button that asks for a paragraph about a sample, and the paragraph once it is there. */
export function descriptionBox(run, name, sample) {
  const said = element("div", { role: "status" });
  const button = element(
    "button",
    { type: "button", class: "quiet", "aria-label": `Describe this culture: ${name}` },
    "Describe this culture",
  );
  const show = ({ text, ...how }) => {
    said.replaceChildren(
      element("p", { class: "paragraph" }, text),
      element("p", { class: "hint" }, descriptionSource(how)),
    );
    button.hidden = true;
  };
  button.addEventListener("click", async () => {
    button.disabled = true;
    said.textContent = "Writing …";
    try {
      // The card is drawn anew now and then; what was written stays with the sample.
      sample.description = await (await postJSON("describe", describedSample(run, name, sample))).json();
      show(sample.description);
    } catch (error) {
      said.textContent = `It could not be described: ${error.message}`;
      button.disabled = false;
    }
  });
  if (sample.description) show(sample.description);
  return element("div", { class: "description" }, button, said);
}
