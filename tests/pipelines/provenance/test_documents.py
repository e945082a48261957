"""What a bundle says of where it comes from holds to the published schemas, and to the bundle."""

import hashlib
import json

import pytest

from fatescope.config.params import load
from fatescope.inference import bundle
from pipelines.provenance.attestation import attest, to_text
from pipelines.provenance.code import Code, without_password
from pipelines.provenance.components import list_components
from pipelines.provenance.recipe import Machine, Recipe
from pipelines.verification.report import spread
from tests.support.bundles import COMMITTED
from tests.support.project import ROOT

DIGEST = hashlib.sha256(b"a spec").hexdigest()
COMMIT = "0123456789abcdef0123456789abcdef01234567"
UNKNOWN = bundle.read_spec(COMMITTED / "binary")
"""Made from no data, by code that was in no repository."""
SPEC = UNKNOWN.model_copy(update={"data_hash": "d" * 64, "git_commit": f"{COMMIT}-dirty"})


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.dvc").write_text("outs:\n- md5: 2e4ba582ff3608b73c8fe59f32f86aa1.dir\n  path: data\n")
    begun = Recipe.begin(load(ROOT / "params.yaml"), Machine.here("cpu", "torch.float32"))
    code = Code(commit=COMMIT, changes="a patch\n", repository="https://example.org/fatescope.git")
    return begun.model_copy(update={"code": code}).end(shortened=False)


def attested(recipe):
    return attest(SPEC, DIGEST, "5" * 64, "a run", recipe)


def test_an_attestation_names_every_file_and_all_that_it_was_made_from(recipe):
    statement = attested(recipe)
    subjects = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    assert subjects.pop("fatescope-binary") == DIGEST
    assert subjects == SPEC.hashes
    definition = statement["predicate"]["buildDefinition"]
    code, changes, data, splits = definition["resolvedDependencies"]
    assert code["uri"] == f"git+https://example.org/fatescope.git@{COMMIT}"
    assert code["digest"] == {"gitCommit": COMMIT}
    assert changes["digest"] == {"sha256": hashlib.sha256(b"a patch\n").hexdigest()}
    assert data["digest"] == {"sha256": SPEC.data_hash}
    assert data["annotations"] == {"dvc": "2e4ba582ff3608b73c8fe59f32f86aa1.dir"}
    assert splits["digest"] == {"sha256": "5" * 64}
    assert definition["externalParameters"]["seed"] == SPEC.seed
    assert statement["predicate"]["runDetails"]["metadata"]["invocationId"] == "a run"
    assert to_text(statement) == to_text(attested(recipe)), "the same whenever it is made"


def test_in_totos_own_library_takes_the_statement(recipe):
    sigstore = pytest.importorskip("sigstore.dsse")
    statement = sigstore.Statement(to_text(attested(recipe)).encode())
    assert statement._matches_digest(
        pytest.importorskip("sigstore.hashes").Hashed(
            algorithm=pytest.importorskip("sigstore_models.common.v1").HashAlgorithm.SHA2_256,
            digest=bytes.fromhex(DIGEST),
        )
    )


def test_a_bundle_of_before_is_attested_as_far_as_it_is_known():
    [code, *others] = attested(None)["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert code == {"name": "code", "digest": {"gitCommit": COMMIT}}
    assert [each["name"] for each in others] == ["data", "splits.parquet"]
    nothing = attest(UNKNOWN, DIGEST, "5" * 64, "", None)["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert [each["name"] for each in nothing] == ["splits.parquet"]


@pytest.mark.parametrize("known", [True, False])
def test_the_list_of_components_holds_to_the_schema_of_cyclonedx(recipe, known):
    spec = SPEC if known else UNKNOWN
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema").SchemaVersion.V1_6
    bill = list_components(spec, DIGEST, recipe if known else None)
    assert validation.JsonStrictValidator(schema).validate_str(to_text(bill)) is None
    names = {component["name"]: component.get("version") for component in bill["components"]}
    assert ("torch" in names) is known
    assert not known or names["onnxruntime"] == recipe.packages["onnxruntime"]
    files = {file["name"]: file["hashes"][0]["content"] for file in bill["metadata"]["component"]["components"]}
    assert files == SPEC.hashes
    # A validator that takes everything would show nothing.
    assert validation.JsonStrictValidator(schema).validate_str(json.dumps(bill | {"version": "one"})) is not None


def test_no_password_of_a_repository_is_recorded():
    assert without_password("https://ada:secret@example.org/a.git") == "https://example.org/a.git"
    assert without_password("https://token@example.org:8443/a.git") == "https://example.org:8443/a.git"
    for harmless in ("git@example.org:a/b.git", "ssh://git@example.org/a.git", "/srv/a.git"):
        assert without_password(harmless) == harmless


def test_the_limits_over_seeds_are_those_of_one_more_value():
    # Student's t of two degrees of freedom is 4.3027 at 97.5 %; the deviation of the three values is 0.01.
    found = spread(0.95, 0.9, [0.89, 0.90, 0.91], resolution=0.001)
    assert found.high - 0.90 == pytest.approx(4.3027 * 0.01 * (4 / 3) ** 0.5, rel=1e-4)
    assert not found.within
    assert spread(0.91, 0.9, [0.9, 0.9, 0.9], resolution=0.01).within, "seeds that agree differ by a cell all the same"
    assert not spread(0.92, 0.9, [0.9, 0.9, 0.9], resolution=0.01).within
