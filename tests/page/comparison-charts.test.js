import assert from "node:assert/strict";
import { test } from "node:test";

import { differenceLimit, points, pointsInterval } from "../../service/page/comparison-charts.js";
import { numberAxis } from "../../service/page/curve-charts.js";

test("differences are in percentage points", () => {
  assert.deepEqual([0.123, -0.04, 0.001, -0.001].map(points), ["+12", "−4", "0", "0"]);
  assert.equal(pointsInterval(-0.04, 0.2), "−4 to +20");
  assert.equal(pointsInterval(null, null), "no interval");
  assert.equal(differenceLimit([{ difference: 0.1, low: 0, high: 0.2 }]), 0.2);
  assert.equal(differenceLimit([{ difference: -0.7, low: null, high: null }]), 1);
});

test("doses far apart stand on a logarithmic axis, with zero a decade below the smallest", () => {
  const { position, isLog } = numberAxis([0, 1, 10, 100], true);
  assert.ok(isLog);
  [0, 1, 2, 3].forEach((step, i) => assert.ok(Math.abs(position([0, 1, 10, 100][i]) - step / 3) < 1e-12));
  assert.equal(numberAxis([1, 2, 4], true).isLog, false);
  assert.equal(numberAxis([1, 100], false).isLog, false);
  assert.equal(numberAxis([3], false).position(3), 0.5);
  assert.ok(
    numberAxis(
      Array.from({ length: 30 }, (_, i) => i),
      false,
    ).ticks.length <= 8,
  );
});
