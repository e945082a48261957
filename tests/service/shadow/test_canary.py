"""Which requests the challenger answers, and what is remembered of a share that was taken back."""

import json
import math
from types import SimpleNamespace

import pytest

from fatescope.inference import bundle
from fatescope.inference.shadow_records import read_taken_back, taken_back_path
from service.inference.page_decoder import PageDecoder
from service.registry import challengers
from service.registry.model_store import Champion
from service.settings import ServiceSettings
from service.shadow import metrics
from service.shadow.canary import Canary
from service.shadow.challenge import challenge
from service.shadow.versions import Challenger
from tests.support.bundles import COMMITTED, copy_bundle

SPEC = bundle.read_spec(COMMITTED / "binary")
PAGES = PageDecoder()
MODEL = SimpleNamespace(
    champion=Champion("binary", "3", COMMITTED / "binary"), spec=SPEC, decoder=SimpleNamespace(pages=PAGES)
)
FOUND = Challenger(Champion("binary", "4", COMMITTED / "binary"), SPEC, "fake")
SHADOW = SimpleNamespace(challenger=lambda _: FOUND, challengers=lambda: {"binary": FOUND})


def canary(folder, share=0.3, by="request"):
    made = Canary(SHADOW, folder, share, by, 1.0)
    made.check()
    return made


def scope(key, address="10.0.0.1"):
    return {"headers": [(b"authorization", f"Bearer {key}".encode())] if key else [], "client": (address, 4000)}


def test_a_share_of_the_requests_is_given_and_the_same_one_always(tmp_path):
    first, second = canary(tmp_path), canary(tmp_path)
    given = [first.choose(MODEL, scope("key"), f"{i:016x}") is not None for i in range(2_000)]
    assert sum(given) / len(given) == pytest.approx(0.3, abs=0.04)
    assert given == [second.choose(MODEL, scope("other"), f"{i:016x}") is not None for i in range(2_000)]
    assert first.choose(MODEL, scope("key"), f"{given.index(True):016x}").identity == {
        "name": "fatescope-binary",
        "version": "4",
    }


@pytest.mark.parametrize(
    "clients", [[scope(f"key{i}") for i in range(500)], [scope("", f"10.0.{i}.1") for i in range(500)]]
)
def test_a_share_of_the_clients_always_gets_it(tmp_path, clients):
    one = canary(tmp_path, by="client")
    given = [[one.choose(MODEL, client, f"{i}") is not None for i in range(3)] for client in clients]
    assert all(len(set(answers)) == 1 for answers in given)
    assert sum(answers[0] for answers in given) / len(given) == pytest.approx(0.3, abs=0.07)


def test_a_share_that_was_taken_back_stays_so_after_a_restart_until_somebody_deletes_the_entry(tmp_path, caplog):
    before = canary(tmp_path, share=1.0)
    assert before.choose(MODEL, scope(""), "x")
    before.take_back("binary", "4", "labels", "worse: evidence 55")
    assert "version 4 is taken back (labels): worse: evidence 55; the champion answers all" in caplog.text
    after = canary(tmp_path, share=1.0)
    assert before.choose(MODEL, scope(""), "x") is after.choose(MODEL, scope(""), "x") is None
    path = taken_back_path(tmp_path, "binary")
    assert json.loads(path.read_text())["4"]["detail"] == "worse: evidence 55"
    path.unlink()
    after.check()
    assert after.choose(MODEL, scope(""), "x")


def test_a_share_that_cannot_be_noted_is_not_given_again(tmp_path):
    (tmp_path / "binary").write_text("in the way of a folder")
    one = canary(tmp_path, share=1.0)
    one.take_back("binary", "4", "error", "…")
    one.check()
    assert one.choose(MODEL, scope(""), "x") is None


def test_its_files_are_decoded_where_those_of_the_champion_are(tmp_path):
    assert canary(tmp_path, share=1.0).choose(MODEL, scope(""), "x").decoder.pages is PAGES


def test_what_was_taken_back_is_said_no_more_once_another_version_challenges(tmp_path):
    found = {"binary": FOUND}
    shadow = SimpleNamespace(challenger=found.get, challengers=lambda: dict(found))
    one = Canary(shadow, tmp_path, 0.3, "request", 1.0)
    one.check()
    one.take_back("binary", "4", "labels", "worse")
    taken_back = metrics.TAKEN_BACK.labels("binary", "4", "labels")._value
    share = metrics.CANARY_SHARE.labels("binary")._value
    assert (taken_back.get(), share.get()) == (1, 0)
    found["binary"] = Challenger(Champion("binary", "5", COMMITTED / "binary"), SPEC, "fake")
    one.check()
    assert (taken_back.get(), share.get()) == (-math.inf, 0.3), "published no more"
    found.clear()
    one.check()
    assert share.get() == 0
    # The entry stays.
    found["binary"] = FOUND
    one.check()
    assert (taken_back.get(), share.get()) == (1, 0)


def test_without_records_nothing_is_written_among_the_bundles(tmp_path):
    copy_bundle(tmp_path / "binary", "binary")
    copy_bundle(challengers.folder(tmp_path) / "binary", "binary", seed=7)
    settings = ServiceSettings(bundles=tmp_path, records=None, canary=0.1)
    before = challengers.read_challengers(tmp_path)
    _, one = challenge(settings, tmp_path)
    one.take_back("binary", before["binary"].version, "labels", "worse")
    assert [path.name for path in (challengers.folder(tmp_path) / "binary").iterdir() if path.is_dir()] == []
    assert challengers.read_challengers(tmp_path) == before
    _, after = challenge(settings, tmp_path)
    assert read_taken_back(after._folder, "binary").keys() == {before["binary"].version}
