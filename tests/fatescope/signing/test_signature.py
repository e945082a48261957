"""A bundle is used only as a trusted signer has signed it."""

import datetime as dt
import json
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fatescope.errors import ParamsError
from fatescope.inference import bundle
from fatescope.signing import keys, signature
from fatescope.signing.settings import SigningSettings
from fatescope.signing.signature import SIGNATURE, SignatureError, UnsignedError
from tests.support.bundles import copy_bundle

verifying = pytest.importorskip("model_signing.verifying")


def settings(**given):
    return SigningSettings(**given)


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    """What an installation has without any setting."""
    monkeypatch.delenv("FATESCOPE_SIGNATURES")


@pytest.fixture
def signed(tmp_path):
    """Return a signed bundle, and the settings that it was signed with."""
    folder = tmp_path / "bundle"
    copy_bundle(folder, "binary")
    own = settings(signing_key=tmp_path / "secret" / "key.pem")
    signature.sign(folder, own)
    return folder, own


def hash_again(folder):
    """Make the spec agree with the files, as one who may write to a registry would."""
    bundle.finalize(folder, bundle.read_spec(folder).model_copy(update={"hashes": {}}))
    content = json.loads((folder / bundle.SPEC).read_text())
    content["hashes"].pop(SIGNATURE, None)
    (folder / bundle.SPEC).write_text(json.dumps(content))
    bundle.open_spec(folder)  # it is content


def test_a_key_is_made_at_first_use_for_its_owner_alone(signed):
    folder, own = signed
    assert stat.S_IMODE(own.signing_key.stat().st_mode) == 0o600
    public = own.signing_key.with_suffix(".pub")
    assert keys.fingerprint(public.read_bytes()) in keys.trusted(own).keys
    before = own.signing_key.read_bytes()
    signature.sign(folder, own)
    assert own.signing_key.read_bytes() == before
    assert signature.verify(folder, own, registry=True).signer.startswith("key ")


def test_the_default_key_is_outside_the_project(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    assert keys.key_path(settings(signing_key=None)) == tmp_path / "home" / "fatescope" / "signing-key.pem"
    assert not keys.trusted(settings(signing_key=None))


@pytest.mark.parametrize("name", ["model.onnx", "reference.parquet", "weights.safetensors"])
def test_one_changed_byte_is_refused_though_the_spec_agrees_with_it(signed, name):
    folder, own = signed
    path = folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    hash_again(folder)
    with pytest.raises(SignatureError, match=f"not what was signed.*{name}"):
        signature.verify(folder, own, registry=True)


@pytest.mark.parametrize("change", ["added", "missing", "linked", "hidden"])
def test_other_files_than_those_signed_are_refused(signed, change, tmp_path):
    folder, own = signed
    if change == "added":
        (folder / "more.json").write_text("{}")
    elif change == "hidden":
        (folder / ".git").mkdir()
        (folder / ".git" / "config").write_text("x")
    elif change == "missing":
        (folder / bundle.SEEN).unlink(missing_ok=True)
        (folder / bundle.REFERENCE).unlink()
    else:
        (tmp_path / "elsewhere").write_bytes((folder / bundle.GRAPH).read_bytes())
        (folder / bundle.GRAPH).unlink()
        (folder / bundle.GRAPH).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SignatureError):
        signature.verify(folder, own, registry=True)


@pytest.mark.parametrize("policy", ["required", "warn", None])
@pytest.mark.parametrize("registry", [True, False])
def test_another_signer_is_refused_whatever_the_policy(signed, tmp_path, policy, registry):
    folder, own = signed
    other = settings(signing_key=tmp_path / "other" / "key.pem")
    signature.sign(folder, other)
    with pytest.raises(SignatureError, match="which is not trusted here"):
        signature.verify(folder, own.model_copy(update={"signatures": policy}), registry=registry)


def test_who_claims_the_key_of_another_is_refused(signed, tmp_path):
    folder, own = signed
    genuine = json.loads((folder / SIGNATURE).read_text())
    signature.sign(folder, settings(signing_key=tmp_path / "other" / "key.pem"))
    forged = json.loads((folder / SIGNATURE).read_text())
    forged["verificationMaterial"] = genuine["verificationMaterial"]
    (folder / SIGNATURE).write_text(json.dumps(forged))
    with pytest.raises(SignatureError, match="not what was signed"):
        signature.verify(folder, own, registry=True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff\x00",
        b'{"verificationMaterial": {"publicKey": {}}}',
        b"x" * 2_000_000,
        b"[" * 900_000,
    ],
)
def test_a_damaged_signature_is_refused_in_one_line(signed, content):
    folder, own = signed
    (folder / SIGNATURE).write_bytes(content)
    with pytest.raises(SignatureError) as refused:
        signature.verify(folder, own, registry=True)
    assert "\n" not in str(refused.value)


def test_without_a_signature_the_origin_and_the_setting_decide(signed):
    folder, own = signed
    (folder / SIGNATURE).unlink()
    with pytest.raises(UnsignedError, match="fatescope models sign"):
        signature.verify(folder, own, registry=True)
    assert signature.verify(folder, own, registry=False) == signature.Verified(None)
    warned = signature.verify(folder, own.model_copy(update={"signatures": "warn"}), registry=True)
    assert "no signature" in warned.warning
    with pytest.raises(UnsignedError):
        signature.verify(folder, own.model_copy(update={"signatures": "required"}), registry=False)


def test_where_nobody_is_trusted_versions_are_used_with_a_warning(signed, tmp_path):
    folder, _ = signed
    nobody = settings(signing_key=tmp_path / "none.pem")
    assert "not verified" in signature.verify(folder, nobody, registry=True).warning
    with pytest.raises(SignatureError, match="no key is trusted"):
        signature.verify(folder, nobody.model_copy(update={"signatures": "required"}), registry=True)


def test_several_keys_may_be_trusted_while_one_takes_the_place_of_another(signed, tmp_path):
    folder, own = signed
    new = settings(signing_key=tmp_path / "new" / "key.pem")
    keys.ensure_key(new)
    both = (own.signing_key.with_suffix(".pub"), new.signing_key.parent)
    rotating = new.model_copy(update={"trusted_keys": both})
    assert signature.verify(folder, rotating, registry=True).signer
    signature.sign(folder, rotating)
    assert signature.verify(folder, rotating, registry=True).signer
    with pytest.raises(SignatureError):
        signature.verify(folder, own, registry=True)


def test_a_trusted_key_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ParamsError, match="FATESCOPE_TRUSTED_KEYS"):
        keys.trusted(settings(trusted_keys=(tmp_path / "absent.pub",)))


def certify(subject, key, issuer, issuer_key, *, authority):
    now = dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    usage = dict.fromkeys(
        ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
         "decipher_only"], False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=authority, crl_sign=authority, **usage), critical=True
        )
        .sign(issuer_key, hashes.SHA256())
    )


def test_a_certificate_is_trusted_by_its_root_alone(tmp_path):
    folder = tmp_path / "bundle"
    copy_bundle(folder, "binary")
    roots = {}
    for laboratory in ("ours", "theirs"):
        root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        root = certify(f"{laboratory} root", root_key, None, root_key, authority=True)
        leaf = certify(f"{laboratory} signer", key, root, root_key, authority=False)
        roots[laboratory] = tmp_path / f"{laboratory}-root.pem"
        roots[laboratory].write_bytes(root.public_bytes(Encoding.PEM))
        (tmp_path / f"{laboratory}.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
        (tmp_path / f"{laboratory}-key.pem").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
    signature.sign(
        folder,
        settings(
            sign_with="certificate",
            signing_key=tmp_path / "ours-key.pem",
            signing_certificate=tmp_path / "ours.pem",
        ),
    )
    assert signature.verify(folder, settings(trusted_certificates=(roots["ours"],)), registry=True).signer
    with pytest.raises(SignatureError):
        signature.verify(folder, settings(trusted_certificates=(roots["theirs"],)), registry=True)
    # A key of our own is no word on certificates.
    own = settings(signing_key=tmp_path / "own.pem")
    keys.ensure_key(own)
    with pytest.raises(SignatureError, match="not trusted"):
        signature.verify(folder, own, registry=True)


def test_keyless_signatures_are_checked_for_identity_and_issuer(signed, monkeypatch):
    """Sigstore itself is asked for in its place: it needs the internet."""
    folder, own = signed
    (folder / SIGNATURE).write_text(json.dumps({"verificationMaterial": {"certificate": {"rawBytes": ""}}}))
    with pytest.raises(SignatureError, match="not trusted"):
        signature.verify(folder, own, registry=True)
    asked = []
    monkeypatch.setattr(verifying.Config, "use_sigstore_verifier", lambda _, **given: asked.append(given))
    monkeypatch.setattr(verifying.Config, "verify", lambda *_: None)
    of_ci = settings(trusted_identity="https://github.com/lab/cells/.github/workflows/train.yml@refs/heads/main",
                     trusted_issuer="https://token.actions.githubusercontent.com")  # fmt: skip
    assert "lab/cells" in signature.verify(folder, of_ci, registry=True).signer
    assert asked == [{"identity": of_ci.trusted_identity, "oidc_issuer": of_ci.trusted_issuer, "trust_config": None}]
