import asyncio

import numpy as np
import pytest

from service.inference import metrics
from service.inference.batcher import MAX_BATCH, MAX_IN_FLIGHT, MIN_SECOND_BATCH, Batcher


def cells(*values):
    return np.array(values, np.uint16)[:, None, None]


class Runner:
    """Returns twice the value of each cell, once it is released."""

    def __init__(self):
        self.sizes, self.released, self.broken = [], asyncio.Event(), False

    async def __call__(self, pixels):
        self.sizes.append(len(pixels))
        await self.released.wait()
        if self.broken:
            raise RuntimeError("out of memory")
        return pixels[:, 0].astype(np.float32) * 2


async def settle():
    """Let requests come in, and their calls begin."""
    for _ in range(5):
        await asyncio.sleep(0)


def run(work):
    async def main():
        runner = Runner()
        return await work(runner, Batcher(runner, "binary"))

    return asyncio.run(main())


def test_cells_whose_client_has_gone_are_not_sent():
    async def work(runner, batcher):
        first = asyncio.create_task(batcher.predict(cells(1)))
        await asyncio.sleep(0)
        gone, stays = (asyncio.create_task(batcher.predict(cells(*values))) for values in ((2, 3, 4), (5,)))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        runner.released.set()
        assert [rows[:, 0].tolist() for rows in await asyncio.gather(first, stays)] == [[2], [10]]
        return runner.sizes

    assert run(work) == [1, 1]


def test_cells_whose_client_has_gone_do_not_count_any_more():
    def waiting():
        return metrics.WAITING.labels("binary")._value.get()

    async def work(runner, batcher):
        before = waiting()
        first = asyncio.create_task(batcher.predict(cells(0)))
        await settle()
        assert waiting() == before, "it was sent"
        gone = asyncio.create_task(batcher.predict(cells(*range(MIN_SECOND_BATCH - 1))))
        await settle()
        assert waiting() == before + MIN_SECOND_BATCH - 1
        gone.cancel()
        await settle()
        assert waiting() == before
        # One more than these would have been worth a second call.
        stays = asyncio.create_task(batcher.predict(cells(1, 2)))
        await settle()
        assert runner.sizes == [1]
        runner.released.set()
        await asyncio.gather(first, stays)
        assert waiting() == before
        return runner.sizes

    assert run(work) == [1, 2]


def test_no_more_than_two_calls_are_in_flight():
    async def work(runner, batcher):
        requests = [asyncio.create_task(batcher.predict(cells(*range(MIN_SECOND_BATCH)))) for _ in range(4)]
        await settle()
        assert runner.sizes == [MIN_SECOND_BATCH] * MAX_IN_FLIGHT
        runner.released.set()
        await asyncio.gather(*requests)
        return runner.sizes

    assert run(work) == [MIN_SECOND_BATCH, MIN_SECOND_BATCH, 2 * MIN_SECOND_BATCH]


def test_each_request_gets_its_own_rows_and_batches_grow_while_calls_are_in_flight():
    async def work(runner, batcher):
        requests = [asyncio.create_task(batcher.predict(cells(i, 100 + i))) for i in range(20)]
        await asyncio.sleep(0)
        runner.released.set()
        rows = await asyncio.gather(*requests)
        assert [own[:, 0].tolist() for own in rows] == [[2 * i, 200 + 2 * i] for i in range(20)]
        return runner.sizes

    sizes = run(work)
    # A lone request waits for nothing; few cells wait until the first call returns.
    assert sizes == [2, MIN_SECOND_BATCH, 40 - 2 - MIN_SECOND_BATCH]


def test_no_call_is_larger_than_allowed():
    async def work(runner, batcher):
        requests = [asyncio.create_task(batcher.predict(np.zeros((100, 1, 1), np.uint16))) for _ in range(10)]
        await asyncio.sleep(0)
        runner.released.set()
        await asyncio.gather(*requests)
        return runner.sizes

    assert max(run(work)) <= MAX_BATCH


def test_a_failed_call_fails_the_requests_in_it_and_no_others():
    async def work(runner, batcher):
        runner.broken = True
        requests = [asyncio.create_task(batcher.predict(cells(i))) for i in range(5)]
        await asyncio.sleep(0)
        runner.released.set()
        failed = await asyncio.gather(*requests, return_exceptions=True)
        assert [str(error) for error in failed] == ["out of memory"] * 5
        runner.broken = False
        return await batcher.predict(cells(4))

    assert run(work)[0, 0] == 8


def test_a_cancelled_request_does_not_affect_the_others():
    async def work(runner, batcher):
        requests = [asyncio.create_task(batcher.predict(cells(i))) for i in range(6)]
        await asyncio.sleep(0)
        requests[0].cancel()
        requests[4].cancel()
        runner.released.set()
        return await asyncio.gather(*requests, return_exceptions=True)

    results = run(work)
    assert isinstance(results[0], asyncio.CancelledError)
    assert [float(results[i][0, 0]) for i in (1, 2, 3, 5)] == [2, 4, 6, 10]


@pytest.mark.parametrize("reply", [np.zeros((3, 1), np.float32), np.float32("nan"), None])
def test_a_reply_that_is_not_a_row_for_each_cell_is_an_error_for_every_request(reply):
    """A request waited for ever where the rows could not be dealt out."""

    async def main():
        async def call(_):
            return reply

        batcher = Batcher(call, "binary")
        return await asyncio.wait_for(
            asyncio.gather(batcher.predict(cells(1)), batcher.predict(cells(2, 4)), return_exceptions=True), 30
        )

    assert [type(error) for error in asyncio.run(main())] == [ValueError, ValueError]
