"""What is deployed is held to the schemas of Kubernetes, and to what the code reads and serves."""

import json
import re
import subprocess
import sys

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from fatescope.language import settings as language_settings
from fatescope.signing import settings as signing_settings
from monitoring import settings as monitoring_settings
from service import settings as service_settings
from tests.support.project import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
VERSION = "1.31"
OURS = "fatescope:0.1.0"


def read(path):
    return [each for each in YAML(typ="safe").load_all(path) if each]


def manifests():
    listed = read(KUBERNETES / "kustomization.yaml")[0]["resources"]
    return [each for name in listed for each in read(KUBERNETES / name)]


def patched():
    """Return the manifests as the overlay for GPUs has them: JSON 6902, of which it uses `add` and `replace`."""
    overlay = read(KUBERNETES / "gpu" / "kustomization.yaml")[0]
    found = manifests()
    for patch in overlay["patches"]:
        [target] = [
            each
            for each in found
            if (each["kind"], each["metadata"]["name"]) == (patch["target"]["kind"], patch["target"]["name"])
        ]
        for change in read(KUBERNETES / "gpu" / patch["path"])[0]:
            *parents, last = change["path"].split("/")[1:]
            place = target
            for each in parents:
                place = place[int(each)] if isinstance(place, list) else place[each]
            if isinstance(place, list):
                assert (change["op"], last) == ("add", "-"), change
                place.append(change["value"])
                continue
            assert (last in place) == (change["op"] == "replace"), change
            place[last] = change["value"]
    return found


ALL = {"cpu": manifests(), "gpu": patched()}


def of(kind, which="cpu"):
    return {each["metadata"]["name"]: each for each in ALL[which] if each["kind"] == kind}


def pods(which="cpu"):
    return {name: each["spec"]["template"] for name, each in of("Deployment", which).items()}


@pytest.mark.parametrize("which", ALL)
def test_they_are_what_kubernetes_knows(which):
    for each in ALL[which]:
        # Strict: a field that it does not know is an error, not left out.
        kubernetes_validate.validate(json.loads(json.dumps(each)), VERSION, strict=True)


def test_the_check_finds_what_is_wrong():
    wrong = json.loads(json.dumps(of("Deployment")["fatescope-gateway"]))
    wrong["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


def test_every_file_is_listed():
    listed = set(read(KUBERNETES / "kustomization.yaml")[0]["resources"]) | {"kustomization.yaml"}
    assert {path.name for path in KUBERNETES.glob("*.yaml")} == listed
    assert {each["metadata"].get("namespace", "fatescope") for each in ALL["cpu"]} == {"fatescope"}


@pytest.mark.parametrize("which", ALL)
def test_every_container_can_do_nothing_but_its_work(which):
    for name, pod in pods(which).items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        for each in spec["containers"]:
            allowed = each["securityContext"]
            assert allowed["readOnlyRootFilesystem"], name
            assert allowed["allowPrivilegeEscalation"] is False, name
            assert allowed["capabilities"] == {"drop": ["ALL"]}, name
            assert each["image"] == OURS, "pinned, and the same for all"
            assert {"cpu", "memory"} <= set(each["resources"]["limits"]), name
            assert {"startupProbe", "livenessProbe"} <= set(each), name
            written = {mount["name"] for mount in each["volumeMounts"]}
            assert written == {volume["name"] for volume in spec["volumes"]}, name


def test_what_is_named_is_there():
    templates, claims = pods(), of("PersistentVolumeClaim")
    labels = [pod["metadata"]["labels"] for pod in templates.values()]
    for each in of("Deployment").values():
        assert each["spec"]["selector"]["matchLabels"].items() <= each["spec"]["template"]["metadata"]["labels"].items()
    for service in of("Service").values():
        chosen = [
            pod
            for pod in templates.values()
            if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        ]
        [pod] = chosen
        ports = {port["name"] for each in pod["spec"]["containers"] for port in each["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for budget in of("PodDisruptionBudget").values():
        assert any(budget["spec"]["selector"]["matchLabels"].items() <= each.items() for each in labels)
    for scaler in of("HorizontalPodAutoscaler").values():
        assert scaler["spec"]["scaleTargetRef"]["name"] in templates
        # What it decides is not said a second time.
        assert "replicas" not in of("Deployment")[scaler["spec"]["scaleTargetRef"]["name"]]["spec"]
    for pod in templates.values():
        for volume in pod["spec"]["volumes"]:
            assert volume.get("persistentVolumeClaim", {}).get("claimName", "fatescope-records") in claims
    policy = of("NetworkPolicy")["fatescope-runner"]["spec"]
    assert policy["podSelector"]["matchLabels"] == templates["fatescope-runner"]["metadata"]["labels"]
    [allowed] = policy["ingress"]
    assert allowed["from"] == [{"podSelector": {"matchLabels": templates["fatescope-gateway"]["metadata"]["labels"]}}]


@pytest.mark.parametrize("which", ALL)
def test_gateway_and_runner_share_a_secret_and_whom_they_trust(which):
    shared = of("ConfigMap")["fatescope"]["data"]
    assert shared["FATESCOPE_SIGNATURES"] == "required"
    for name in ("fatescope-gateway", "fatescope-runner"):
        [container] = pods(which)[name]["spec"]["containers"]
        [secret] = [each for each in container["env"] if each["name"] == "FATESCOPE_RUNNER_SECRET"]
        assert secret["valueFrom"] == {"secretKeyRef": {"name": "fatescope", "key": "FATESCOPE_RUNNER_SECRET"}}
        [mount] = [each for each in container["volumeMounts"] if each["name"] == "trusted-keys"]
        assert mount["mountPath"] == shared["FATESCOPE_TRUSTED_KEYS"]


@pytest.mark.parametrize("which", ALL)
def test_a_runner_has_a_thread_for_each_core_that_it_may_use(which):
    [runner] = pods(which)["fatescope-runner"]["spec"]["containers"]
    assert {"name": "FATESCOPE_THREADS", "value": runner["resources"]["limits"]["cpu"]} in runner["env"]


def test_a_gpu_is_asked_for_where_it_can_be_had():
    [runner] = pods("gpu")["fatescope-runner"]["spec"]["containers"]
    assert runner["resources"]["limits"]["nvidia.com/gpu"] == "1"
    # Else it would fall back to the processor, and keep the GPU.
    assert {"name": "FATESCOPE_ENGINE", "value": "gpu"} in runner["env"]
    for name in ("fatescope-gateway", "fatescope-exporter"):
        assert "gpu" not in json.dumps(pods("gpu")[name]["spec"]["containers"])


def test_the_variables_are_those_that_the_code_reads():
    named = set(of("ConfigMap")["fatescope"]["data"])
    for pod in [*pods().values(), *pods("gpu").values()]:
        named |= {each["name"] for container in pod["spec"]["containers"] for each in container.get("env", [])}
    for service in read(ROOT / "deploy" / "compose.yaml")[0]["services"].values():
        named |= {name for name in service.get("environment", {}) if name.startswith("FATESCOPE")}
    signing = map(signing_settings.variable, signing_settings.SigningSettings.model_fields)
    read_by_programs = {
        *service_settings.variables(),
        *monitoring_settings.variables(),
        *signing,
        *map(language_settings.variable, language_settings.LanguageSettings.model_fields),
        "MLFLOW_TRACKING_URI",
    }
    assert named <= read_by_programs, f"nothing reads {named - read_by_programs}"


def test_prices_of_running_are_asked_for_and_there_is_none_where_they_are_empty(monkeypatch):
    compose = read(ROOT / "deploy" / "compose.yaml")[0]["services"]["service"]["environment"]
    prices = {service_settings.variable(name): name for name in ("price_per_hour", "price_per_kwh")}
    for variable, name in prices.items():
        assert compose[variable] == f"${{{variable}:-}}", "from deploy/.env"
        assert f"# {variable}=" in (ROOT / "deploy" / ".env.example").read_text()
        assert of("ConfigMap")["fatescope"]["data"][variable] == ""
        monkeypatch.setenv(variable, "")
        assert getattr(service_settings.ServiceSettings.read(), name) is None
    for kind in ALL:
        [gateway] = pods(kind)["fatescope-gateway"]["spec"]["containers"]
        assert {"configMapRef": {"name": "fatescope"}} in gateway["envFrom"]


def test_runners_are_scaled_by_a_metric_that_there_is():
    [metric] = of("HorizontalPodAutoscaler")["fatescope-runner"]["spec"]["metrics"]
    name = metric["external"]["metric"]["name"]
    assert f'"{name}"' in (ROOT / "service" / "inference" / "metrics.py").read_text()
    page = (ROOT / "docs" / "how-to" / "deploy-on-kubernetes.md").read_text()
    rule = re.search(r"```yaml\n(.*?external.*?)```", page, re.DOTALL)
    [external] = YAML(typ="safe").load(rule[1])["rules"]["external"]
    assert external["seriesQuery"].startswith(name)
    assert external["name"] == {"as": name}


def test_probes_ask_what_is_answered():
    ports = {"gateway": 3000, "runner": 3001, "exporter": 9300}
    for name, pod in pods().items():
        [each] = pod["spec"]["containers"]
        assert each["ports"][0]["containerPort"] == ports[name.removeprefix("fatescope-")]
        asked = {each[probe]["httpGet"]["path"] for probe in each if probe.endswith("Probe")}
        assert asked <= ({"/metrics"} if "exporter" in name else {"/readyz", "/livez"})
    assert of("ConfigMap")["fatescope"]["data"]["FATESCOPE_RUNNER"] == f"http://fatescope-runner:{ports['runner']}"


@pytest.mark.slow
def test_commands_take_what_they_are_given():
    given = [pod["spec"]["containers"][0]["command"] for pod in pods().values()]
    services = read(ROOT / "deploy" / "compose.yaml")[0]["services"]
    given += [each["command"] for each in services.values() if each["image"] == OURS and "command" in each]
    assert len(given) == 6
    programs = [tuple(command[1:3] if command[0] == "python" else ["-m", *command[:2]]) for command in given]
    # Each once, all at the same time: they take seconds to import what they need.
    asked = {
        program: subprocess.Popen([sys.executable, *program, "--help"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for program in set(programs)
    }
    answers = {program: process.communicate()[0] for program, process in asked.items()}
    assert not any(process.returncode for process in asked.values())
    for command, program in zip(given, programs, strict=True):
        told = answers[program]
        for option in [each for each in command if each.startswith("--")]:
            assert re.search(rf"(?<!\S){option}\b", told), f"{' '.join(command)}: no {option}"


def test_one_server():
    [content] = read(ROOT / "deploy" / "compose.yaml")
    services = content["services"]
    assert {"service", "mlflow", "postgresql", "prometheus", "grafana", "exporter"} <= set(services)
    for name, each in services.items():
        assert each["read_only"], name
        assert each["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in each["security_opt"], name
        assert re.search(r":v?\d+\.\d+", each["image"]), f"{name}: not pinned"
        if name != "volumes":
            assert each["user"].split(":")[0] != "0", name
        for other in each.get("depends_on", {}):
            assert other in services, name
        for mount in each.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (ROOT / "deploy" / source).exists(), mount
            else:
                assert source in content["volumes"], mount
    told = (ROOT / "deploy" / ".env.example").read_text()
    asked = set(re.findall(r"\$\{(\w+):\?", (ROOT / "deploy" / "compose.yaml").read_text()))
    assert asked == set(re.findall(r"^(\w+)=$", told, re.MULTILINE))


def test_the_watch_of_one_server_is_that_of_a_machine_by_other_names():
    for name in ("prometheus.yml", "alertmanager.yml"):
        [there], [here] = read(ROOT / "deploy" / name), read(ROOT / "monitoring" / "prometheus" / name)
        found = json.dumps(there)
        for local, service in (
            ("3000", "service"),
            ("9300", "exporter"),
            ("9093", "alertmanager"),
            ("9301", "incidents"),
        ):
            found = found.replace(f"{service}:{local}", f"127.0.0.1:{local}")
        assert json.loads(found) == here
    services = read(ROOT / "deploy" / "compose.yaml")[0]["services"]
    assert {"service", "exporter", "alertmanager", "incidents"} <= set(services)
