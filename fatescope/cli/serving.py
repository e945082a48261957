"""Commands around the service: `serve`, `watch`, `score`, `bento` and `keys`."""

import ipaddress
import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from fatescope import plural
from fatescope.cli import console, processes
from fatescope.errors import FatescopeError
from fatescope.ports import OTHER_PORT, check_port

BENTO = "service.gateway:Fatescope"
SERVICE_EXTRA = "pip install -e '.[service]'"
PROMETHEUS, ALERTMANAGER = "prometheus", "prometheus-alertmanager"
WATCH_PORTS = (9090, 9093, 9300, 9301)
"""Those of Prometheus, Alertmanager, the drift exporter and the incidents."""
Port = Annotated[int, typer.Option(help="The port of the page and the HTTP API.", min=1, max=65535)]

KeysFile = Annotated[
    Path | None, typer.Option("--file", help="The file of named keys. [default: FATESCOPE_KEYS, else keys.json]")
]

keys = console.group("API keys of the service.", "fatescope keys new", "fatescope keys new plate-reader --cells 100000")


def serve_command(port: int, host: str | None) -> list[str]:
    """Return the command line of the service."""
    import service

    command = [console.program("bentoml", SERVICE_EXTRA), "serve", BENTO, "--port", str(port)]
    # Where the sources are: the current folder need not be the project's.
    command += ["--working-dir", str(Path(service.__file__).parents[1])]
    return [*command, "--host", host] if host else command


def page_url(host: str, port: int) -> str:
    """Return where this machine reaches a service that is bound to `host`, an IP address."""
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        address = ipaddress.ip_address("::1" if address.version == 6 else "127.0.0.1")
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"


def serve(
    port: Port = 3000,
    host: Annotated[
        str | None,
        typer.Option(help="The address to bind to. [default: 127.0.0.1, or 0.0.0.0 where keys are asked for]"),
    ] = None,
    bundles: Annotated[
        Path | None,
        typer.Option(help="A folder with one bundle folder a task, served in place of the champions of the registry."),
    ] = None,
) -> None:
    """Serve the champions as a web page and an HTTP API."""
    from service.settings import ServiceSettings, paths_from_here

    command = serve_command(port, host)
    # Before the address is printed; BentoML takes seconds until the service does the same.
    settings = ServiceSettings.read()
    host = host or settings.host
    check_port(host, port, OTHER_PORT)
    if bundles is not None:
        os.environ["FATESCOPE_BUNDLES"] = str(bundles)
    os.environ.update(paths_from_here())
    print(f"Service  {page_url(host, port)}", flush=True)
    # In place of this process, so that signals reach the service.
    os.execv(command[0], command)  # noqa: S606  a command of our own


def watch(port: Port = 3000) -> None:
    """Run the service with its monitoring.

    Drift exporter, incidents, Prometheus and Alertmanager. One that ends is started again; Ctrl-C ends all of them.
    """
    import monitoring
    from service.settings import paths_from_here

    configuration = Path(monitoring.__file__).parent / "prometheus"
    debian = "on Debian: apt install prometheus prometheus-alertmanager"
    url = f"http://127.0.0.1:{port}"
    commands = {
        "service": serve_command(port, None),
        "exporter": [sys.executable, "-m", "monitoring.exporter", "--service", url],
        "incidents": [sys.executable, "-m", "monitoring.incidents", "--service", url],
        "Alertmanager": [
            console.program(ALERTMANAGER, debian), "--config.file", str(configuration / "alertmanager.yml"),
            "--storage.path", ".prometheus/alerts", "--web.listen-address", "127.0.0.1:9093",
            "--cluster.listen-address=",
        ],
        "Prometheus": [
            console.program(PROMETHEUS, debian), "--config.file", str(configuration / "prometheus.yml"),
            "--storage.tsdb.path", ".prometheus", "--web.listen-address", "127.0.0.1:9090",
        ],
    }  # fmt: skip
    environment = paths_from_here()
    check_port("127.0.0.1", port, OTHER_PORT)
    for fixed in WATCH_PORTS:
        check_port("127.0.0.1", fixed)
    with processes.running(commands, environment, Path.cwd()) as started:
        print(f"Service {url}, Prometheus http://127.0.0.1:9090, drift http://127.0.0.1:9300", flush=True)
        processes.keep(started, commands, environment, Path.cwd())


def score(  # noqa: PLR0913, PLR0917  each is an option of the command
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="The folder of images, with any folders below it, or a .cif or .rif.")
    ],
    out: Annotated[
        Path,
        typer.Option(help="The folder of the results; the same one continues a job, and adds what is new in SRC."),
    ],
    task: Annotated[str, typer.Option(help="The task whose champion classifies. [default: multiclass if served]")] = "",
    model: Annotated[Path | None, typer.Option(help="A bundle folder to use in place of a champion.")] = None,
    workers: Annotated[
        int, typer.Option(help="Processes; 0 is one a GPU, or one for each group of cores; 1 is the command itself.")
    ] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads of a process; 0 shares out the cores.")] = 0,
    ray: Annotated[
        str, typer.Option(help="Address of a Ray cluster to use, `auto` for the one this machine is of.")
    ] = "",
    quality: Annotated[
        bool | None,
        typer.Option(
            "--quality/--no-quality",
            help="Say which cells are outside the gates of the model, if it has any: 0.3 ms a cell on a core.",
            show_default="as the job began, or --quality",
        ),
    ] = None,
) -> None:
    """Classify the images of a folder, however many.

    OUT has a row for each cell, the reason for each file that was refused, and counts in summary.json.
    """
    from service.batch import run

    run.score(source, out, task=task, model=model, workers=workers, threads=threads, ray=ray, quality=quality)


def bento() -> None:
    """Pack the service and its champions into a Bento.

    It runs without a registry, and `bentoml containerize` makes an image of it.
    """
    champions = Path("champions")
    shutil.rmtree(champions, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "service.registry.registry_sync", str(champions), "--once"],
        [console.program("bentoml", SERVICE_EXTRA), "build"],
    ):
        code = processes.foreground(command)
        if code:
            raise typer.Exit(code)


@keys.command(
    epilog=console.examples(
        "fatescope keys new",
        "fatescope keys new plate-reader --scope classify --cells 100000 --per day",
        "fatescope keys new ann --scope classify --scope feedback --scope admin --days 90 --json",
    )
)
def new(  # noqa: PLR0913, PLR0917  each is an option of the command
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="What the key is called in logs, records and metrics; not by a person."),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What it may do: classify, feedback, teach, download or admin; repeat it. [default: classify]"
        ),
    ] = None,
    requests: Annotated[int | None, typer.Option(help="Requests that it may send in a period.", min=1)] = None,
    cells: Annotated[int | None, typer.Option(help="Cells that may be classified for it in a period.", min=1)] = None,
    per: Annotated[str, typer.Option(help="The period: minute, hour or day, in UTC.")] = "day",
    days: Annotated[int | None, typer.Option(help="Days after which it ends. [default: never]", min=1)] = None,
    file: KeysFile = None,
    as_json: console.AsJson = False,
) -> None:
    """Make an API key.

    With a NAME, the file of keys gets its hash, scopes and quotas, and a running service takes it within seconds; the
    key is for the client alone. Without, its hash is for the environment of the service.
    """
    from service.api import auth
    from service.settings import variable

    if name is None:
        if scope or requests or cells or days or file:
            raise FatescopeError("a key with scopes or quotas needs a name: fatescope keys new NAME")
        key, digest = auth.new_key()
        if as_json:
            console.print_json({"key": key, "hash": digest, "variable": variable("api_keys")})
            return
        print(f"key, for the client:    {key}")
        print(f"hash, for the service:  {variable('api_keys')}={digest}")
        return
    from service.api import key_file

    path = _keys_file(file)
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days) if days else None
    key, digest = auth.new_key()
    entry = key_file.make_entry(
        name, digest, scope or ["classify"], requests=requests, cells=cells, per=per, expires=expires
    )
    key_file.add(path, entry)
    if as_json:
        console.print_json({"key": key, "file": str(path), **entry.model_dump(mode="json")})
        return
    print(f"key, for the client:    {key}")
    print(f"hash, for the service:  in {path}; the service reads it where {variable('keys')} names it")


@keys.command("list", epilog=console.examples("fatescope keys list", "fatescope keys list --json"))
def list_keys(file: KeysFile = None, as_json: console.AsJson = False) -> None:
    """List the named keys, with scopes and quotas."""
    from service.api import key_file

    entries = key_file.read(_keys_file(file))
    if as_json:
        console.print_json([entry.model_dump(mode="json", exclude={"sha256"}) for entry in entries])
        return
    for entry in entries:
        quotas = [f"{plural.count(most, what)} a {entry.per}" for what, most in
                  (("request", entry.requests), ("cell", entry.cells)) if most is not None]  # fmt: skip
        ends = f"  until {entry.expires:%Y-%m-%d}" if entry.expires else ""
        print(f"{entry.name:<20} {', '.join(entry.scopes):<26} {', '.join(quotas) or 'no quota'}{ends}")


@keys.command(epilog=console.examples("fatescope keys revoke plate-reader"))
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the key.")], file: KeysFile = None
) -> None:
    """Remove a named key; a running service refuses it within seconds."""
    from service.api import key_file

    path = _keys_file(file)
    key_file.revoke(path, name)
    print(f"{path}: the key '{name}' is no longer accepted")


def _keys_file(given: Path | None) -> Path:
    return given or Path(os.environ.get("FATESCOPE_KEYS") or "keys.json")
