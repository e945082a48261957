"""An analysis file gives the objects that a person put into populations, and is held to the file it was saved with."""

import io
import tracemalloc

import numpy as np
import pytest

from fatescope.data.native import analysis
from fatescope.data.native.reader import NativeFile
from fatescope.errors import DataError
from tests.support import native
from tests.support.project import SHARED


def read(raw, name="run.daf"):
    return analysis.read_analysis(io.BytesIO(raw), name)


def why_not(raw):
    try:
        read(raw)
    except DataError as error:
        return str(error)
    return ""


def numbers(population):
    return [number for first, last in population.spans for number in range(first, last + 1)]


def test_objects_that_were_tagged_or_set_apart_by_number():
    found = read(native.analysis("run.cif", 90, {"Dead": [7, 3, 4, 5, 7]}, {"Live": (10, 12.9), "None": (3.2, 3.8)}))
    assert (found.cif, found.objects, found.offsets, found.channels) == ("run.cif", 90, {}, {4: "BF"})
    assert {population.name: numbers(population) for population in found.populations} == {
        "Live": [10, 11, 12],
        "None": [],
        "Dead": [3, 4, 5, 7],
    }
    assert [len(population) for population in found.populations] == [3, 0, 4]
    live, none, dead = found.populations
    asked = np.array([0, 3, 6, 7, 8, 10, 12, 13])
    assert asked[dead.contains(asked)].tolist() == [3, 7]
    assert asked[live.contains(asked)].tolist() == [10, 12]
    assert not none.contains(asked).any()


@pytest.mark.parametrize("binary", [b"\n\0\x1e" + bytes(range(256)) * 40, b"", b"<not/xml", b"</Assay>"])
def test_what_comes_behind_the_xml_is_not_read(binary):
    found = read(native.analysis("run.cif", 5, listed={"A": [1]}, binary=binary))
    assert [population.name for population in found.populations] == ["A"]


def test_the_end_of_the_xml_is_found_across_blocks(monkeypatch):
    raw = native.analysis("run.cif", 5, listed={"A": [1]}, binary=bytes(100))
    for block in range(1, 12):
        monkeypatch.setattr(analysis, "_BLOCK", block)
        assert len(read(raw).populations) == 1


def test_no_folder_and_no_name_of_a_person_is_kept():
    assert "Operator" not in repr(read(native.analysis("run.cif", 5, listed={"A": [1]})))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "no element found"),
        (b"<Assay></Assay>", "does not name its .cif"),
        (native.analysis("run.cif")[:-20], "cannot be read"),
        (b'<!DOCTYPE x [<!ENTITY y "z">]>' + native.analysis("run.cif"), "declares a document type"),
        (native.analysis("run.cif", listed={"A": ["x"]}), "'A' has an object without a number"),
        (native.analysis("run.cif", gated={"A": ("x", 1)}), "the region 'A' has a corner at 'x'"),
        (native.analysis("run.cif", gated={"A": ("nan", 1)}), "has a corner at 'nan'"),
    ],
)
def test_what_cannot_be_read_is_told(raw, words):
    with pytest.raises(DataError, match=rf"run\.daf: an analysis file that cannot be read: .*{words}"):
        read(raw)


def test_too_many_populations_are_refused(monkeypatch):
    monkeypatch.setattr(analysis, "_MAX_POPULATIONS", 2)
    with pytest.raises(DataError, match="more than 2 populations"):
        read(native.analysis("run.cif", listed={"A": [], "B": [], "C": []}))


def test_ranges_of_any_size_take_no_memory():
    tracemalloc.start()
    try:
        [population] = read(native.analysis("run.cif", gated={"A": ("-inf", 1e300)})).populations
        assert population.contains(np.array([0, 10**12])).all()
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def places(file):
    return {place.object: place.offset for place in file.places()}


@pytest.mark.parametrize(("count", "numbers"), [(7, None), (3, None), (6, [2, 4, 5, 7, 8, 9])])
def test_an_analysis_is_held_to_its_file(count, numbers):
    drawn = native.draw_objects(count)
    file = NativeFile(io.BytesIO(native.native(drawn, numbers=numbers)), "run.cif")
    other = NativeFile(io.BytesIO(native.native(drawn, numbers=numbers, runs=("a longer name of a run",))), "run.cif")
    for objects, binary in ((count, native.records(places(file))), (count, b""), (None, b"")):
        analysis.check_analysis(read(native.analysis("run.cif", objects, binary=binary)), "run.daf", file)
    own = read(native.analysis("run.cif", count, binary=native.records(places(other))))
    analysis.check_analysis(own, "run.daf", other)
    with pytest.raises(DataError, match=r"run\.daf: is of another file called run\.cif \(there, object \d is at byte"):
        analysis.check_analysis(own, "run.daf", file)
    with pytest.raises(DataError, match=rf"run\.daf: is of 9 objects, but run\.cif has {count}; put the \.daf beside"):
        analysis.check_analysis(read(native.analysis("run.cif", 9)), "run.daf", file)


def test_records_whose_sizes_do_not_add_up_say_nothing():
    whole = native.records(dict(enumerate(range(1000, 1900, 100))))
    assert read(native.analysis("run.cif", 9, binary=whole)).offsets == {
        0: 1000,
        1: 1100,
        2: 1200,
        3: 1300,
        4: 1400,
    }
    for binary in (whole[:-1], whole + b"\0", whole[:11], native.records({}), whole[:3] + bytes(4) + b"\xff" * 200):
        assert read(native.analysis("run.cif", 9, binary=binary)).offsets == {}


@pytest.mark.parametrize("seed", range(10))
def test_damage_gives_one_kind_of_error(seed):
    rng = np.random.default_rng(seed)
    whole = native.analysis("run.cif", 90, {"Dead": [7, 3]}, {"Live": (10, 12)}, native.records({0: 900, 1: 950}))
    for _ in range(200):
        raw = bytearray(whole)
        for at in rng.integers(0, len(raw), rng.integers(1, 5)):
            raw[at] = rng.integers(256)
        reason = why_not(bytes(raw[: rng.integers(len(raw))] if rng.random() < 0.2 else raw))
        assert reason == "" or reason.startswith("run.daf: ")


def test_a_real_analysis():
    path = SHARED / "example.daf"
    if not path.exists():
        pytest.skip(f"the real file is not here: {path}")
    found = read(path.read_bytes(), path.name)
    assert (found.cif, found.objects) == ("example.cif", 420)
    # Of its records, which end where the file does; the checksum of the file is not their sum.
    assert found.offsets == {0: 9_550_169, 1: 9_570_012, 2: 9_591_717, 3: 9_612_594, 4: 9_630_851}
    assert found.channels == {1: "DAPI", 2: "ARK2_AF488", 3: "aTub_PE", 4: "BF", 5: "pH3_AF647", 6: "DF"}
    sizes = {population.name: len(population) for population in found.populations}
    assert len(sizes) == 12
    assert sum(sizes.values()) == 420
    assert (sizes["tagged-G1"], sizes["tagged-dea"]) == (40, 10)
    assert numbers(next(one for one in found.populations if one.name == "tagged-S")) == list(range(40, 80))
