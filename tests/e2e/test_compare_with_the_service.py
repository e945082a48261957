"""Cultures compared on the page with the answers of the service itself, in a real browser."""

import zipfile

import fcsparser
import pandas as pd
import pytest
from playwright.sync_api import expect

from tests.e2e.test_compare_on_the_page import DAYS, THREE, classify, compared, export
from tests.support.bundles import CLASSES

pytestmark = pytest.mark.slow


def test_the_service_compares_what_the_page_sends(page):
    classify(page, export(THREE))
    compared(page, 9)
    assert page.locator("#comparison article li").count() == 2 * len(CLASSES)
    with page.expect_download() as saved:
        page.click("#save-differences")
    table = pd.read_csv(saved.value.path(), encoding="utf-8-sig")
    assert len(table) == 2 * len(CLASSES)
    for sentence in table["sentence"]:
        expect(page.locator("#comparison")).to_contain_text(sentence)


def test_days_of_one_culture_and_of_several_are_answered(page):
    classify(page, export(["day1", "day3"]))
    compared(page, 2)
    expect(page.locator(".curves figure")).to_have_count(len(CLASSES))
    page.click("#start-over")
    classify(page, export(DAYS))
    compared(page, 8)
    expect(page.locator("#comparison details.day")).to_have_count(2)


@pytest.mark.filterwarnings("ignore")  # of the reader of FCS, which is older than its parts
def test_fcs_files_have_the_roles(page, tmp_path):
    classify(page, export(["control_d1_r1", "CHIR_5uM_d1_r2"]))
    compared(page, 2)
    with page.expect_download() as saved:
        page.click("[data-format=fcs]")
    with zipfile.ZipFile(saved.value.path()) as files:
        files.extractall(tmp_path)
    about, _ = fcsparser.parse(tmp_path / "CHIR_5uM_d1_r2.fcs", reformat_meta=True)
    keys = ("CONDITION", "REPLICATE", "DAY", "DOSE")
    condition, replicate, day, dose = (about[f"FATESCOPE_{key}"] for key in keys)
    assert (condition, replicate, float(day), float(dose)) == ("CHIR", "2", 1, 5)
