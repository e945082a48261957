import assert from "node:assert/strict";
import { test } from "node:test";

import { initialRoles } from "../../service/page/comparison.js";
import { setRole, toText } from "../../service/page/role-table.js";

test("roles are taken as they are typed, and numbers only where they are some", () => {
  const roles = initialRoles("x_5uM");
  assert.equal(toText(roles, "dose"), "5 µM");
  assert.ok(setRole(roles, "dose", "0,5 nM"));
  assert.deepEqual([roles.dose, roles.unit], [0.5, "nM"]);
  assert.ok(setRole(roles, "dose", "7"));
  assert.equal(toText(roles, "dose"), "7 nM");
  assert.ok(setRole(roles, "dose", " "));
  assert.deepEqual([roles.dose, roles.unit, toText(roles, "dose")], [null, null, ""]);
  assert.ok(setRole(roles, "dose", "7", "mM"));
  assert.equal(toText(roles, "dose"), "7 mM");
  assert.ok(setRole(roles, "day", "48 h"));
  assert.equal(roles.day, 2);
  assert.equal(setRole(roles, "day", "monday"), false);
  assert.equal(roles.day, null);
  assert.ok(setRole(roles, "replicate", " 2 ") && setRole(roles, "condition", ""));
  assert.deepEqual([roles.replicate, roles.condition], ["2", ""]);
});
