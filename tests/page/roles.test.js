import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { matchSamples, parseTable, readPlateMap } from "../../service/page/plate-map.js";
import { inOneUnit, readRoles } from "../../service/page/roles.js";

const CASES = JSON.parse(readFileSync(new URL("roles.json", import.meta.url), "utf8"));
const NONE = { condition: "", replicate: null, day: null, dose: null, unit: null, donor: null };

for (const { name, ...roles } of CASES.names) {
  test(`the roles that a name spells: '${name}'`, () => {
    assert.deepEqual(readRoles(name), { ...NONE, ...roles });
  });
}

for (const { case: name, roles, unit, doses } of CASES.units) {
  test(`doses: ${name}`, () => {
    assert.deepEqual(inOneUnit(roles.map(([dose, its]) => ({ dose, unit: its }))), { unit, doses });
  });
}

for (const { case: name, text, samples, roles, problems } of CASES.maps) {
  test(`a plate map: ${name}`, () => {
    const map = readPlateMap(text);
    const rolesOf = ({ well, sample, line, ...its }) => its;
    const found = Object.fromEntries([...matchSamples(map.rows, samples)].map(([key, row]) => [key, rolesOf(row)]));
    const wanted = Object.fromEntries(Object.entries(roles).map(([key, its]) => [key, { ...NONE, ...its }]));
    assert.deepEqual(found, wanted);
    assert.deepEqual(map.problems, problems);
  });
}

test("a table has quoted fields with separators, quotes and line ends", () => {
  assert.deepEqual(parseTable('a,b\r\n"x, ""y""\nz",2'), [
    ["a", "b"],
    ['x, "y"\nz', "2"],
  ]);
  assert.deepEqual(parseTable("a,b\n1,\n"), [["a", "b"], ["1", ""], [""]]);
});

test("a table without any role is no plate map", () => {
  const { rows, problems } = readPlateMap("id,area,intensity\n1,20,3\n");
  assert.deepEqual(rows, []);
  assert.match(problems[0], /names no column 'condition'/);
});

test("an empty plate map says what it lacks", () => {
  assert.equal(readPlateMap("").problems.length, 1);
});
