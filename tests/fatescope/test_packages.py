import pytest

from fatescope import packages


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages, named so that no real one is like them."""

    def install(name, version, *needs, extras=()):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        lines = [f"Name: {name}", f"Version: {version}", *(f"Provides-Extra: {extra}" for extra in extras)]
        (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines, *needs, ""]))

    monkeypatch.syspath_prepend(str(tmp_path))
    return install


def test_what_is_needed_in_turn_is_found_by_its_canonical_name(site):
    site("fsc_a", "1.0", "Requires-Dist: FSC.B (>=2)")
    site("fsc_b", "2.1", "Requires-Dist: fsc-a")
    assert packages.closure(["fsc-a"]) == {"fsc-a": "1.0", "fsc-b": "2.1"}


def test_an_extra_brings_its_packages_also_where_the_package_was_seen_without_it(site):
    needs = ('Requires-Dist: fsc-b; extra == "more"', "Requires-Dist: fsc-c[more]")
    site("fsc_a", "1", *needs, extras=["more"])
    site("fsc_b", "1")
    site("fsc_c", "1", 'Requires-Dist: fsc-d; extra == "more"', extras=["more"])
    site("fsc_d", "1")
    assert packages.closure(["fsc-a"]).keys() == {"fsc-a", "fsc-c", "fsc-d"}
    assert packages.closure(["fsc-a", "fsc-a[more]"]).keys() == {"fsc-a", "fsc-b", "fsc-c", "fsc-d"}


def test_what_a_marker_rules_out_is_left_out_and_what_is_absent_has_no_version(site):
    site("fsc_a", "1", 'Requires-Dist: fsc-b; python_version < "3"', "Requires-Dist: fsc-absent")
    assert packages.closure(["fsc-a"]) == {"fsc-a": "1", "fsc-absent": None}
