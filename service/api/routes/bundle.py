"""The files of a bundle that a browser needs to run its model, for people who do not send their images."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse

from fatescope.inference import bundle
from service.api.headers import CACHE, FOREVER
from service.api.state import state_of
from service.inference.errors import RequestError

router = APIRouter(tags=["models"])

BundleFile = Literal["spec.json", "model.onnx", "outliers.safetensors", "test.safetensors"]
"""What runs and checks a model; neither its weights for training nor what is known of the training cells."""
_VERSION = "X-Model-Version"


@router.get(
    "/bundle/{task}/{name}",
    response_class=FileResponse,
    responses={200: {"description": "The file.", "content": {"application/octet-stream": {}}}},
)
def bundle_file(
    request: Request,
    task: str,
    name: BundleFile,
    sha256: Annotated[
        str | None,
        Query(
            pattern="^[0-9a-f]{64}$",
            description="The hash of the file in `spec.json`. A browser keeps a file that was asked for by its hash; "
            "where another version is in service by now, the answer is 404.",
        ),
    ] = None,
) -> FileResponse:
    """Return a file of the model in service, with which a browser classifies cells that it does not send.

    Its version is in the header X-Model-Version.
    """
    model = state_of(request.scope).models.get(task)
    known = model.spec.hashes.get(name)
    if sha256 is not None and sha256 != known:
        raise RequestError(
            404, "changed", f"the {name} in service has another hash by now; read {bundle.SPEC} again and ask for the "
            "one that it names",
        )  # fmt: skip
    # The spec names the other files by their hashes, and so has to be the one in service.
    headers = {"Cache-Control": CACHE if sha256 is None else FOREVER, _VERSION: model.champion.version}
    return FileResponse(model.champion.path / name, media_type="application/octet-stream", headers=headers)
