"""What only libraries in C read is decoded in processes: with the same pixels, and at the cost of one file."""

import asyncio
import io
import os
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image
from prometheus_client import REGISTRY

from fatescope import processes
from fatescope.data import images
from fatescope.guarded_pool import GuardedPool, PoolError
from fatescope.inference import bundle
from service.inference import decoding_parts, page_decoder, recorded_cells
from service.inference.decoding import CellDecoder
from service.inference.errors import RequestError
from service.inference.files import OtherChannel, RejectedFile, Upload
from service.inference.page_decoder import PageDecoder
from tests.support import hostile
from tests.support.bundles import COMMITTED
from tests.support.images import tiff, typical
from tests.support.in_process import application


@pytest.fixture(scope="module")
def pool():
    pool = GuardedPool(2, [hostile.__name__], limit_s=3.0)
    yield pool
    pool.close()


@pytest.fixture
def pages(pool):
    return PageDecoder(pool, hostile.decode_pages)


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch):
    monkeypatch.setattr(processes, "TICK_S", 0.05)


def compressed(*cells, compression="zlib"):
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for pixels in cells:
            writer.write(pixels, compression=compression, metadata=None)
    return buffer.getvalue()


def decode(pages, raw, name="cell.tif"):
    file = Upload(raw, name)
    return list(pages.decode(file, page_decoder.read_headers(file)))


def codes(decoded):
    return [page.code if isinstance(page, images.ImageError) else None for page in decoded]


def encoded(kind):
    buffer = io.BytesIO()
    Image.fromarray((typical(0) // 16).astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


KINDS = {
    "plain": tiff(typical(0)),
    "strips": tiff(typical(0), rowsperstrip=7),
    "zlib": compressed(typical(0)),
    "lzw": compressed(typical(0), compression="lzw"),
    "png": encoded("PNG"),
    "jpeg": encoded("JPEG"),
    "bmp": encoded("BMP"),
    "pages": compressed(*(typical(seed) for seed in range(5))),
}
PLAIN = ("plain", "strips")


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_gives_the_pixels_that_this_one_would(pages, kind):
    raw = KINDS[kind]
    headers = images.read_headers(raw, "cell")
    expected = list(images.decode_pages(raw, headers, "cell", 10**6))
    decoded = decode(pages, raw)
    assert [header for header, _ in decoded] == [header for header, _ in expected]
    for (_, pixels), (_, there) in zip(decoded, expected, strict=True):
        np.testing.assert_array_equal(pixels, there)
        assert pixels.dtype == there.dtype


@pytest.mark.parametrize("kind", KINDS)
def test_only_plain_pixels_are_decoded_at_once(pages, kind):
    assert pages.is_quick(Upload(KINDS[kind], "cell")) == (kind in PLAIN)
    assert PageDecoder().is_quick(Upload(KINDS[kind], "cell"))


@pytest.mark.parametrize("name", ["exit", "segfault", "memory", pytest.param("hang", marks=pytest.mark.slow)])
def test_a_file_that_takes_its_process_along_is_refused_with_its_code(pages, name):
    [error] = decode(pages, KINDS["zlib"], f"{name}.tif")
    assert error.code == ("too_slow" if name == "hang" else "decoder")
    assert f"{name}.tif: decoding it" in str(error)
    assert codes(decode(pages, KINDS["zlib"])) == [None]


def test_a_page_that_takes_its_process_along_does_not_cost_the_others(pages):
    cells = [typical(0), typical(1, height=46), typical(2)]
    decoded = decode(pages, compressed(*cells), "page 2 is bad.tif")
    assert codes(decoded) == [None, "decoder", None]
    np.testing.assert_array_equal(decoded[2][1], cells[2])


def test_pages_of_a_large_file_come_in_parts(pages, monkeypatch):
    monkeypatch.setattr(decoding_parts, "_IMAGES", 2)
    cells = [typical(seed, height=46 if seed == 3 else 45) for seed in range(7)]
    raw = compressed(*cells)
    for (_, pixels), cell in zip(decode(pages, raw), cells, strict=True):
        np.testing.assert_array_equal(pixels, cell)
    assert codes(decode(pages, raw, "page 2")) == [None, None, None, "decoder", None, None, None]


def test_a_large_file_is_lent_as_a_temporary_one(pages, monkeypatch):
    monkeypatch.setattr(decoding_parts, "_SENT_BYTES", 100)
    for kind in ("zlib", "jpeg", "png", "bmp"):
        assert codes(decode(pages, KINDS[kind])) == [None]


def test_pages_that_announce_too_much_are_refused_as_ever(pages):
    raw = compressed(np.zeros((1100, 1000), np.uint8))
    assert codes(decode(pages, raw)) == ["too_large"]


def test_files_are_decoded_many_together_and_keep_their_order(pages, pool, monkeypatch):
    sent = []
    run = pool.run
    monkeypatch.setattr(pool, "run", lambda function, calls: sent.append(len(calls)) or run(function, calls))
    files = [
        OtherChannel("a_Ch4.tif"),
        RejectedFile("b.tif", images.ImageError("zip", "b.tif: damaged")),
        Upload(b"no image", "c.tif"),
        *(Upload(KINDS["plain"] if i % 3 == 0 else KINDS["zlib"], f"{i}.tif") for i in range(150)),
        Upload(KINDS["pages"], "pages.tif"),
        Upload(KINDS["zlib"], "exit.tif"),
        Upload(KINDS["zlib"], "last.tif"),
    ]
    ahead = list(pages.decode_ahead(iter(files)))
    assert [file.name for file in ahead] == [file.name for file in files]
    assert sent in ([100, 2], [102])
    decoded = {file.name: file.decoded for file in ahead if isinstance(file, Upload)}
    assert [name for name, of in decoded.items() if of is None and name not in {"c.tif", "pages.tif"}] == [
        f"{i}.tif" for i in range(0, 150, 3)
    ]
    np.testing.assert_array_equal(decoded["1.tif"][0], typical(0))
    assert decoded["exit.tif"][0].code == "decoder"
    np.testing.assert_array_equal(decoded["last.tif"][0], typical(0))


def test_without_processes_files_are_passed_on():
    files = [Upload(KINDS["zlib"], "a.tif")]
    assert list(PageDecoder.with_processes(0).decode_ahead(iter(files))) == files


def test_a_channel_of_an_object_that_takes_its_process_along_costs_the_object(pages):
    spec = bundle.read_spec(COMMITTED / "multiclass")
    decoder = CellDecoder(spec, pages)
    [cell] = decoder.decode(Upload(KINDS["zlib"], "segfault.tif"))
    assert cell.error.code == "decoder"
    with pytest.raises(images.ImageError, match="ended the process"):
        decoder.decode_one(Upload(KINDS["zlib"], "exit.tif"))
    assert decoder.decode_at_once(Upload(KINDS["zlib"], "exit.tif")) is None
    assert decoder.decode_at_once(Upload(KINDS["plain"], "cell.tif")).size == (45, 60)


def test_decoders_share_the_memory_that_there_is_with_those_of_other_gateways(monkeypatch):
    monkeypatch.setattr(processes, "memory_bytes", lambda: 8 << 30)
    made = []
    monkeypatch.setattr(page_decoder, "GuardedPool", lambda *_, memory_bytes: made.append(memory_bytes))
    for count, gateways in ((1, 1), (4, 2), (4, 8)):
        PageDecoder.with_processes(count, gateways)
    assert made == [1 << 30, int(0.4 * (8 << 30)) // 8, 256 << 20]


def test_a_service_whose_decoders_cannot_start_is_not_ready_until_they_can(bundles, tmp_path, monkeypatch):
    def fail(_):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    def exported():
        return REGISTRY.get_sample_value("fatescope_decoding", {"pid": str(os.getpid())}) or REGISTRY.get_sample_value(
            "fatescope_decoding"
        )

    with application(tmp_path, bundles, decoders=1) as app:
        state = app.state.service
        asyncio.run(state.pages.check())
        assert (state.unready_reason, exported()) == (None, 1)
        state.pages.close()
        monkeypatch.setattr("multiprocessing.context.ForkServerProcess.start", fail)
        asyncio.run(state.pages.check())
        assert "no process that decodes files can be started (" in state.unready_reason
        assert not exported()
        monkeypatch.undo()
        asyncio.run(state.pages.check())
        assert (state.unready_reason, exported()) == (None, 1)


def test_a_process_that_cannot_be_started_is_no_fault_of_a_file(monkeypatch):
    def fail(*_):
        raise PoolError("no process that decodes files can be started")

    pages = PageDecoder.with_processes(1)
    monkeypatch.setattr(GuardedPool, "run", fail)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("cell.tif", KINDS["plain"])
    archive = zipfile.ZipFile(buffer)
    for work in (
        lambda: decode(pages, KINDS["zlib"]),
        lambda: list(pages.decode_ahead(iter([Upload(KINDS["zlib"], "a.tif")]))),
        lambda: pages.expand(archive, archive.infolist()[0], "cell.tif"),
    ):
        with pytest.raises(RequestError) as raised:
            work()
        assert (raised.value.status_code, raised.value.code) == (503, "decoding")


def crops_to_describe(count):
    """Return crops of several sizes, and a bit depth for each."""
    crops = [typical(seed)[: 20 + seed % 3, : 24 + seed % 2] for seed in range(count)]
    return [np.ascontiguousarray(crop) for crop in crops], [12 + 4 * (seed % 2) for seed in range(count)]


@pytest.mark.parametrize(("count", "calls"), [(3, 0), (page_decoder.MIN_DESCRIBED, 1), (300, 2)])
def test_cells_are_described_alike_in_a_process_and_in_this_one(pages, pool, monkeypatch, count, calls):
    crops, depths = crops_to_describe(count)
    alone = [recorded_cells.describe([crop], [depth]) for crop, depth in zip(crops, depths, strict=True)]
    elsewhere, run = [], pool.run
    monkeypatch.setattr(pool, "run", lambda function, parts: (elsewhere.extend(parts), run(function, parts))[1])
    hashes, features = pages.describe(crops, depths)
    assert hashes.tolist() == [int(of_one[0]) for of_one, _ in alone]
    np.testing.assert_allclose(features, np.concatenate([of_one for _, of_one in alone]), rtol=1e-5)
    assert len(elsewhere) == calls


@pytest.mark.parametrize("without", ["a pool", "a process", "an end"])
def test_cells_are_described_whatever_becomes_of_the_processes(pool, monkeypatch, without):
    crops, depths = crops_to_describe(page_decoder.MIN_DESCRIBED)

    def fails(*_):
        if without == "a process":
            raise PoolError("none can be started")
        return [decoding_parts.Fatal(hung=True)]

    monkeypatch.setattr(pool, "run", fails)
    described = PageDecoder(None if without == "a pool" else pool).describe(crops, depths)
    for got, expected in zip(described, recorded_cells.describe(crops, depths), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_cells_are_described_in_parts_of_few_cells_and_bytes(monkeypatch):
    crops, depths = crops_to_describe(20)
    monkeypatch.setattr(recorded_cells, "MAX_CELLS", 6)
    parts = list(recorded_cells.parts(crops, depths))
    assert [len(cells) for cells, _ in parts] == [6, 6, 6, 2]
    assert [depth for _, some in parts for depth in some] == depths
    monkeypatch.setattr(recorded_cells, "MAX_BYTES", 10)
    assert [len(cells) for cells, _ in recorded_cells.parts(crops, depths)] == [1] * 20
