"""The Kubernetes overlays: they render, the API knows every field, and their parts fit together."""

import copy
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubernetes.__main__ import OUT, prometheus_rule
from service.settings import Settings
from tests.deploy.dockerfile import read_stages
from tests.deploy.kubernetes_schema import problem
from tests.deploy.promql import ROOT, read_rules, unknown_metrics

OVERLAYS = ROOT / "deploy" / "kubernetes" / "overlays"
NAMES = ["cpu", "gpu"]
FOREIGN = {"ServiceMonitor", "PrometheusRule", "ScaledObject"}


@functools.cache
def render(name: str) -> list[dict[str, Any]]:
    """Render an overlay; the objects in order."""
    program = shutil.which("kubectl", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert program, "kubectl is missing: make install-dev"
    result = subprocess.run(
        [program, "kustomize", OVERLAYS / name], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return list(yaml.safe_load_all(result.stdout))


def one(name: str, kind: str) -> dict[str, Any]:
    """Return the only object of a kind."""
    [found] = [manifest for manifest in render(name) if manifest["kind"] == kind]
    return found


def pod(name: str) -> dict[str, Any]:
    """Return the pod of the deployment."""
    return one(name, "Deployment")["spec"]["template"]["spec"]


def in_order(rules: list[dict[str, Any]]) -> list[str]:
    """Write rules in a form in which lists of them can be compared in any order."""
    return sorted(json.dumps(rule, sort_keys=True) for rule in rules)


@pytest.mark.parametrize("name", NAMES)
def test_the_api_knows_every_field(name: str) -> None:
    """No misspelt field, none that is missing, no value of a wrong type."""
    own = [manifest for manifest in render(name) if manifest["kind"] not in FOREIGN]

    assert {
        "Namespace", "ServiceAccount", "Deployment", "Service", "PodDisruptionBudget",
        "NetworkPolicy", "ConfigMap",
    } == {manifest["kind"] for manifest in own}  # fmt: skip
    assert {None} == {problem(manifest) for manifest in own}


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        (["spec", "template", "spec"], "terminationGracePeriod", 60),
        (["spec", "template", "spec", "containers", 0], "image", 5),
        (["spec", "template", "spec", "containers", 0, "startupProbe"], "periodSeconds", "2"),
        (["spec", "template", "spec", "containers", 0, "ports"], 0, {"name": "http"}),
    ],
)
def test_a_wrong_field_would_be_found(where: list[Any], key: str | int, value: object) -> None:
    """The check above sees unknown fields, wrong types and missing fields at any depth."""
    manifest = copy.deepcopy(one("cpu", "Deployment"))
    part: Any = functools.reduce(lambda inside, step: inside[step], where, manifest)
    part[key] = value

    assert problem(manifest) is not None


@pytest.mark.parametrize("name", NAMES)
def test_pods_keep_the_restricted_standard(name: str) -> None:
    """The namespace demands it: no root, no capabilities, nothing to write to but given volumes."""
    spec = pod(name)
    labels = one(name, "Namespace")["metadata"]["labels"]

    assert "restricted" == labels["pod-security.kubernetes.io/enforce"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert "RuntimeDefault" == spec["securityContext"]["seccompProfile"]["type"]
    uid, gid = read_stages()["runtime"].value("USER").split(":")
    assert (int(uid), int(gid)) == (
        spec["securityContext"]["runAsUser"],
        spec["securityContext"]["runAsGroup"],
    )
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        assert {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        } == container["securityContext"]
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert {"emptyDir", "name"} == {key for volume in spec["volumes"] for key in volume}


@pytest.mark.parametrize("name", NAMES)
def test_the_pod_is_given_time_to_drain(name: str) -> None:
    """It is killed only after drain and shutdown; proxies learn of the drain while it lasts."""
    [container] = pod(name)["containers"]
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    drain_s = float(variables["SEMSR_DRAIN_S"])
    end_s = drain_s + float(variables["SEMSR_SHUTDOWN_TIMEOUT_S"])
    readiness = container["readinessProbe"]

    assert set() == {key.removeprefix("SEMSR_").lower() for key in variables} - set(
        Settings.model_fields
    )
    assert end_s + 5 <= pod(name)["terminationGracePeriodSeconds"]
    assert readiness["periodSeconds"] * (readiness["failureThreshold"] + 1) < drain_s


@pytest.mark.parametrize("name", NAMES)
def test_probes_ask_the_right_questions(name: str) -> None:
    """Ready decides about traffic and start, alive about restarts: overload causes no restart."""
    [container] = pod(name)["containers"]
    paths = {
        kind: container[f"{kind}Probe"]["httpGet"]["path"]
        for kind in ("startup", "readiness", "liveness")
    }

    assert {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"} == paths
    assert [{"name": "http", "containerPort": 8000}] == container["ports"]
    assert "8000" == read_stages()["runtime"].variables()["SEMSR_PORT"]


@pytest.mark.parametrize("name", NAMES)
def test_everything_selects_the_pods(name: str) -> None:
    """Service, budget, network policy and monitor mean the deployment's pods and port."""
    labels = one(name, "Deployment")["spec"]["template"]["metadata"]["labels"]
    service = one(name, "Service")
    monitor = one(name, "ServiceMonitor")["spec"]
    policy = one(name, "NetworkPolicy")["spec"]

    assert labels == service["spec"]["selector"]
    assert labels == one(name, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]
    assert labels == policy["podSelector"]["matchLabels"]
    assert monitor["selector"]["matchLabels"] == service["metadata"]["labels"]
    assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    # The alerts look for the job of this name, which the operator takes from the Service.
    assert "semsr" == service["metadata"]["name"]
    assert ["Ingress", "Egress"] == policy["policyTypes"]
    assert "egress" not in policy or [] == policy["egress"]
    assert {"semsr"} == {
        manifest["metadata"]["namespace"]
        for manifest in render(name)
        if manifest["kind"] != "Namespace"
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_autoscaler_reads_a_figure_that_exists(name: str) -> None:
    """It scales the deployment, and its query reads what the rules record."""
    spec = one(name, "ScaledObject")["spec"]
    [trigger] = spec["triggers"]

    assert one(name, "Deployment")["metadata"]["name"] == spec["scaleTargetRef"]["name"]
    assert "replicas" not in one(name, "Deployment")["spec"]
    assert 2 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
    assert set() == unknown_metrics(trigger["metadata"]["query"])
    assert 0 < float(trigger["metadata"]["threshold"])


def test_the_gpu_has_plans_before_it_serves() -> None:
    """The plans are built into the folder that the image reads them from, on the same card."""
    [init] = pod("gpu")["initContainers"]
    [container] = pod("gpu")["containers"]
    folder = read_stages()["gpu"].variables()["SEMSR_PLAN_CACHE"]

    for each in (init, container):
        assert folder in [mount["mountPath"] for mount in each["volumeMounts"]]
        assert "1" == each["resources"]["limits"]["nvidia.com/gpu"]
    assert init["image"] == container["image"]


def test_rules_are_those_of_prometheus() -> None:
    """`make deploy-files` was run after the last change of a rule."""
    rules = [
        rule for group in one("cpu", "PrometheusRule")["spec"]["groups"] for rule in group["rules"]
    ]

    assert prometheus_rule() == OUT.read_text(encoding="utf-8")
    assert in_order(read_rules()) == in_order(rules)


def test_images_are_those_of_compose_and_of_this_version() -> None:
    """One version everywhere."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    version = next(
        line.split('"')[1]
        for line in (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
        if line.startswith("version = ")
    )

    assert f"semsr:{version}" == compose["services"]["semsr"]["image"]
    assert f"semsr:{version}" == pod("cpu")["containers"][0]["image"]
    assert f"semsr:{version}-gpu" == pod("gpu")["containers"][0]["image"]
