"""A registered version is built again from nothing but the registry, its repository and its data."""

import hashlib
import json
import shutil
import subprocess
from types import SimpleNamespace

import pytest

from fatescope.errors import BundleError, DataError, FatescopeError
from fatescope.inference import bundle
from pipelines.commands import verify
from pipelines.commands.verify import Choices
from pipelines.provenance.recipe import RECIPE, Recipe
from pipelines.registry import versions
from tests.support.pipeline import run_register
from tests.support.project import ROOT

pytestmark = pytest.mark.slow


def in_git():
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, check=False)
    return done.returncode == 0


needs_git = pytest.mark.skipif(not in_git(), reason="the code is in no git repository")


@needs_git
@pytest.mark.usefixtures("empty_registry")
def test_a_version_is_built_again_with_the_same_logits(folder, tmp_path):
    """In a clone of this repository, with this environment; the folder of the training is not asked for anything."""
    assert run_register(folder)["version"] == "1"
    choices = Choices(repository=str(ROOT), data=folder / "data", here=True, reseeded=2, keep=tmp_path / "again")
    report = verify.verify("binary", "challenger", choices)
    spec = bundle.read_spec(folder / "artifacts/binary/bundle")
    assert (report.version, report.outcome, report.reproduced) == ("1", "same", True), report.describe()
    assert report.logits.max_difference <= bundle.TOLERANCE
    assert report.logits.same_calls == 1.0
    assert (report.seed, report.seeds, report.epochs) == (0, [1, 2], [spec.params["train"][0]["epochs"]])
    assert report.data_hash == spec.data_hash
    assert (report.differences, report.remarks) == ([], [])
    # Other seeds give other networks, or the agreement above would mean nothing.
    assert min(other.max_difference for other in report.reseeded_logits) > 10 * bundle.TOLERANCE
    accuracy = report.metrics["balanced_accuracy"]
    assert accuracy.registered == accuracy.rebuilt == pytest.approx(report.recorded_balanced_accuracy, abs=1e-4)
    again = bundle.read_spec(tmp_path / "again/checkout/rebuilt/0")
    assert (again.temperature, again.conformal) == (pytest.approx(spec.temperature), pytest.approx(spec.conformal))
    assert "reproduced: the rebuild gives the same logits" in report.describe()


def test_a_registered_version_is_attested(folder, empty_registry):
    run_register(folder)
    tags = empty_registry.get_model_version("fatescope-binary", "1").tags
    with versions.download("binary", "1") as registered:
        spec = bundle.open_spec(registered)
        text = (registered / "attestation.json").read_bytes()
        card = (registered / "card.md").read_text()
        assert {"attestation.json", "sbom.cdx.json", "recipe.json", "constraints.txt"} <= spec.hashes.keys()
        for subject in json.loads(text)["subject"][1:]:
            assert spec.hashes[subject["name"]] == subject["digest"]["sha256"], "the files are those of the training"
    statement = json.loads(text)
    assert statement["subject"][0]["digest"]["sha256"] == tags["bundle"]
    assert hashlib.sha256(text).hexdigest() == tags["attestation"]
    assert "`fatescope models verify binary 1` builds it again" in card
    used = {each["name"]: each for each in statement["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert used["data"]["digest"]["sha256"] == tags["data_hash"]
    assert used["constraints.txt"]["digest"]["sha256"] == spec.hashes["constraints.txt"]


@needs_git
@pytest.mark.usefixtures("empty_registry")
def test_other_data_and_another_repository_are_refused(folder, tmp_path):
    run_register(folder)
    other = tmp_path / "other"
    subprocess.run(["git", "init", "--quiet", str(other)], check=True)
    with pytest.raises(FatescopeError, match=r"fetching commit [0-9a-f]{12}, which is on no branch of .*other, failed"):
        verify.verify("binary", "1", Choices(repository=str(other), data=folder / "data", here=True))
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    for path in sorted((folder / "data").iterdir())[:-2]:
        (fewer / path.name).symlink_to(path)
    with pytest.raises(DataError, match=r"its cells are version .*, and the model was trained on"):
        verify.verify("binary", "1", Choices(repository=str(ROOT), data=fewer, here=True))


@pytest.mark.parametrize("name", ["train", "teacher"])
def test_the_backbone_of_a_version_is_pretrained_again(folder, tmp_path, monkeypatch, name):
    """The weights are in no bundle, and the checkout has no artifacts of its own."""
    registered = folder / "artifacts/binary/bundle"
    spec, recipe, ran = bundle.read_spec(registered), Recipe.read(registered), []
    work = SimpleNamespace(folder=tmp_path, run=lambda module, *arguments: ran.append((module, arguments)))
    monkeypatch.setattr(verify.dataset, "load_summary", lambda _: {"data_hash": spec.data_hash})
    member = spec.params["train"][0] | {"weights": "artifacts/pretrained/backbone.safetensors"}
    pretrained = spec.model_copy(update={"params": spec.params | {name: [member]}})
    for each, expected in ((spec, []), (pretrained, ["pipelines.stages.pretrain"])):
        ran.clear()
        verify._build(work, recipe, each, registered, [1], folder / "data")
        stages = [module for module, _ in ran]
        assert stages[2:] == ["pipelines.stages.split", *expected, "pipelines.commands.rebuild"]
    assert ran[-2][1][-2:] == ("--out", "artifacts/pretrained")


@pytest.mark.usefixtures("empty_registry")
def test_what_an_old_version_lacks_is_named(folder, tmp_path):
    models = tmp_path / "models"
    shutil.copytree(folder / "artifacts/binary", models)
    spec, recipe = bundle.read_spec(models / "bundle"), Recipe.read(models / "bundle")
    (models / "bundle" / RECIPE).unlink()
    bundle.finalize(models / "bundle", spec)
    run_register(folder, models)
    with pytest.raises(BundleError, match="version 1 cannot be built again: it was made before versions recorded how"):
        verify.verify("binary", "1", Choices(here=True))
    unknown = recipe.code.model_copy(update={"unknown": ["pipelines/new.py"]})
    assert verify.find_lacking(recipe.model_copy(update={"code": unknown})) == [
        "git did not know pipelines/new.py, whose content is recorded nowhere"
    ]
    with pytest.raises(BundleError, match="no version '9'"):
        verify.verify("binary", "9", Choices(here=True))


def test_the_recipe_of_a_bundle_has_what_decides(folder):
    models = folder / "artifacts/binary"
    recipe = Recipe.read(models / "bundle")
    written = json.loads((folder / "params.yaml").read_text())
    assert recipe.params["tune"]["trials"] == written["tune"]["trials"]
    assert set(recipe.params) == set(written), "all sections, under the names of the file"
    assert recipe.packages["torch"].startswith("2.")
    assert (recipe.machine.device, recipe.shortened) == ("cpu", False)
    assert (models / "bundle/constraints.txt").read_text() == (ROOT / "constraints.txt").read_text()
    assert recipe.started <= recipe.finished
    assert {"recipe.json", "constraints.txt"} <= bundle.read_spec(models / "bundle").hashes.keys()
