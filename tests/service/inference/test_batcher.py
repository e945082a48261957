import asyncio

import numpy as np
import pytest
from starlette.datastructures import Headers

from service.api.admission import Admission
from service.inference.batcher import MAX_BATCH, MIN_SECOND_BATCH, Batcher
from service.inference.errors import RequestError


def cells(*values):
    return np.array(values, np.uint16)[:, None, None]


class Runner:
    """Answers each cell with twice its value, when it is let."""

    def __init__(self):
        self.sizes, self.free, self.broken = [], asyncio.Event(), False

    async def __call__(self, pixels):
        self.sizes.append(len(pixels))
        await self.free.wait()
        if self.broken:
            raise RuntimeError("out of memory")
        return pixels[:, 0].astype(np.float32) * 2


def run(work):
    async def main():
        runner = Runner()
        return await work(runner, Batcher(runner, "binary"))

    return asyncio.run(main())


def test_each_gets_its_own_rows_and_batches_grow_while_calls_are_on_their_way():
    async def work(runner, batcher):
        asked = [asyncio.create_task(batcher.predict(cells(i, 100 + i))) for i in range(20)]
        await asyncio.sleep(0)
        runner.free.set()
        rows = await asyncio.gather(*asked)
        assert [each[:, 0].tolist() for each in rows] == [[2 * i, 200 + 2 * i] for i in range(20)]
        return runner.sizes

    sizes = run(work)
    assert sizes == [2, MIN_SECOND_BATCH, 40 - 2 - MIN_SECOND_BATCH], (
        "nobody waits where nothing is on its way, and few for a second call"
    )


def test_no_call_is_larger_than_allowed():
    async def work(runner, batcher):
        asked = [asyncio.create_task(batcher.predict(np.zeros((100, 1, 1), np.uint16))) for _ in range(10)]
        await asyncio.sleep(0)
        runner.free.set()
        await asyncio.gather(*asked)
        return runner.sizes

    assert max(run(work)) <= MAX_BATCH


def test_a_call_that_fails_is_told_to_all_in_it_and_to_nobody_else():
    async def work(runner, batcher):
        runner.broken = True
        asked = [asyncio.create_task(batcher.predict(cells(i))) for i in range(5)]
        await asyncio.sleep(0)
        runner.free.set()
        failed = await asyncio.gather(*asked, return_exceptions=True)
        assert [str(each) for each in failed] == ["out of memory"] * 5
        runner.broken = False
        return await batcher.predict(cells(4))

    assert run(work)[0, 0] == 8


def test_one_who_leaves_does_not_take_the_others_along():
    async def work(runner, batcher):
        asked = [asyncio.create_task(batcher.predict(cells(i))) for i in range(6)]
        await asyncio.sleep(0)
        asked[0].cancel()
        asked[4].cancel()
        runner.free.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    said = run(work)
    assert isinstance(said[0], asyncio.CancelledError)
    assert [float(said[i][0, 0]) for i in (1, 2, 3, 5)] == [2, 4, 6, 10]


def test_admission_puts_off_what_is_too_much():
    def request(size):
        return Headers({"content-length": str(size)})

    admission = Admission(max_requests=2, max_held_bytes=1000)
    with admission.admit(request(600), 10_000):
        with pytest.raises(RequestError, match="try again") as raised, admission.admit(request(600), 10_000):
            pass
        assert (raised.value.status_code, raised.value.headers["Retry-After"]) == (503, "5")
        with admission.admit(request(10), 10_000):
            with pytest.raises(RequestError) as raised, admission.admit(request(10), 10_000):
                pass
            assert (raised.value.status_code, raised.value.headers["Retry-After"]) == (429, "1")
    with admission.admit(request(5000), 10_000):
        pass  # alone, even what is larger than all that may be held is let in
