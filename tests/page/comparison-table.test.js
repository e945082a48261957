import assert from "node:assert/strict";
import { test } from "node:test";

import { sampleTable, toCSV } from "../../service/page/comparison-table.js";
import { matchSamples, readPlateMap } from "../../service/page/plate-map.js";

test("the table of samples can be read again as a plate map", () => {
  const shares = { a: { share: 0.5, low: 0.4, high: 0.6 } };
  const samples = [
    { sample: "x, 1", condition: 'say "x"', replicate: "1", day: 3, dose: 0.5, donor: null, class_shares: shares },
    { sample: "=y", condition: "y", replicate: null, day: null, dose: null, donor: "D", class_shares: shares },
  ];
  const text = toCSV(sampleTable({ samples }, "µM"));
  assert.ok(text.startsWith("\ufeffsample,condition,replicate,day,dose (µM),donor,share a,low a,high a\r\n"));
  assert.match(text, /^'=y,/m);
  const { rows, problems } = readPlateMap(text);
  assert.deepEqual(problems, []);
  const { line, well, sample, ...roles } = matchSamples(rows, ["x, 1"]).get("x, 1");
  assert.deepEqual(roles, { condition: 'say "x"', replicate: "1", day: 3, dose: 0.5, unit: "µM", donor: null });
});
