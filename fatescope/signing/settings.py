"""The environment variables of signatures, which pipeline, service and command line share."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from fatescope.environment import wrong_variables
from fatescope.errors import ParamsError

_PREFIX = "FATESCOPE_"


def _parse_paths(value: object) -> object:
    return tuple(entry.strip() for entry in value.split(",") if entry.strip()) if isinstance(value, str) else value


Paths = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_parse_paths)]


class SigningSettings(BaseSettings):
    """Who signs bundles, and whose signatures are trusted."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, use_attribute_docstrings=True
    )

    signatures: Literal["required", "warn"] | None = None
    """What happens to versions without a signature, or where nobody is trusted: refused, or used with a warning.
    Without it, `required` for versions of a registry where somebody is trusted, else `warn`. A signature that is wrong
    or of somebody else is always refused."""
    sign_with: Literal["key", "certificate", "keyless"] = "key"
    """How versions are signed when they are registered: with a key, a key and its certificate, or by Sigstore with the
    identity of the person or of the job of CI."""
    signing_key: Path | None = None
    """The private key, PEM of a curve P-256, P-384 or P-521; made there if it is missing. Without it,
    `~/.config/fatescope/signing-key.pem`."""
    signing_certificate: Path | None = None
    """PEM of the certificate of the key, followed by those between it and the root."""
    trusted_keys: Paths = ()
    """Public keys (PEM files, or folders of `*.pub`), separated by commas. Without any of the four variables of trust,
    the key of this installation."""
    trusted_certificates: Paths = ()
    """PEM files of root certificates, separated by commas: each signer that they vouch for is trusted."""
    trusted_identity: str | None = None
    """Whose keyless signatures are trusted: the e-mail address of a person, or the address of a workflow."""
    trusted_issuer: str | None = None
    """Who vouches for that identity, such as `https://token.actions.githubusercontent.com`."""
    sigstore_config: Path | None = None
    """Trust configuration (JSON) of a Sigstore of one's own; without it, the public one, which needs the internet."""

    @classmethod
    def read(cls) -> Self:
        """Read the settings from the environment; raises ParamsError."""
        try:
            settings = cls()
        except ValidationError as error:
            raise wrong_variables(error, variable) from error
        if (settings.trusted_identity is None) != (settings.trusted_issuer is None):
            raise ParamsError(
                f"{variable('trusted_identity')} and {variable('trusted_issuer')} go together; set both or none"
            )
        if settings.sign_with == "certificate" and not (settings.signing_key and settings.signing_certificate):
            raise ParamsError(
                f"{variable('sign_with')}=certificate needs {variable('signing_key')} and "
                f"{variable('signing_certificate')}"
            )
        return settings


def variable(field: str) -> str:
    """Return the name of the environment variable of a field."""
    return _PREFIX + field.upper()
