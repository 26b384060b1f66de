"""docker-compose.yml: as the specification wants it, fixed versions, no more rights than needed."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from service.settings import Settings
from tests.deploy.dockerfile import read_stages
from tests.deploy.promql import PROMETHEUS, ROOT

MAIN, GPU = ROOT / "docker-compose.yml", ROOT / "docker-compose.gpu.yml"
PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"


def read(path: Path) -> dict[str, Any]:
    """Read a compose file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def all_services() -> dict[str, dict[str, Any]]:
    """List the services of both files; the names of the second file's begin with `gpu:`."""
    gpu = {f"gpu:{name}": service for name, service in read(GPU)["services"].items()}
    return {**read(MAIN)["services"], **gpu}


def seconds(duration: str) -> float:
    """Read `40s`."""
    return float(duration.removesuffix("s"))


@pytest.mark.parametrize("path", [MAIN, GPU], ids=lambda path: path.name)
def test_the_specification_is_kept(path: Path) -> None:
    """Every key, type and value is one that the compose specification knows."""
    PyCompose.from_yaml(path.read_text(encoding="utf-8")).validate()


def test_a_wrong_key_would_be_found() -> None:
    """The reader above refuses what Docker would."""
    text = MAIN.read_text(encoding="utf-8").replace("read_only:", "readonly:")

    with pytest.raises(ValueError, match="readonly"):
        PyCompose.from_yaml(text)


@pytest.mark.parametrize("name", all_services())
def test_images_have_a_fixed_version(name: str) -> None:
    """No image changes under the same name."""
    assert re.search(r":v?\d+\.\d+\.\d+[\w.-]*$", all_services()[name]["image"])


@pytest.mark.parametrize("name", sorted({*all_services()} - {"gpu:semsr"}))
def test_containers_have_no_more_rights_than_they_need(name: str) -> None:
    """Read-only root, no capabilities, no new privileges, no root where the image would have it."""
    service = all_services()[name]

    assert service["read_only"] is True
    assert ["ALL"] == service["cap_drop"]
    assert ["no-new-privileges:true"] == service["security_opt"]
    assert not str(service.get("user", "10001")).startswith("0")
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_every_service_has_a_health_check_that_can() -> None:
    """Each but the exporter, whose image holds no program that could ask."""
    services = read(MAIN)["services"]
    checked = {name for name, service in services.items() if "healthcheck" in service}

    assert {"semsr", "prometheus", "grafana"} == checked
    assert {"semsr", "prometheus", "grafana", "dcgm-exporter"} == set(services)
    image = read_stages()["runtime"].command("HEALTHCHECK")
    assert ["CMD", *image] == services["semsr"]["healthcheck"]["test"]


def test_only_the_gpu_exporter_waits_for_a_profile() -> None:
    """`docker compose up` alone brings everything that a host without a GPU can run."""
    profiles = {name: service.get("profiles") for name, service in read(MAIN)["services"].items()}

    assert ["gpu"] == profiles.pop("dcgm-exporter")
    assert {None} == set(profiles.values())


def test_what_is_mounted_exists() -> None:
    """Every folder of the repository that a service mounts is there; every volume is declared."""
    for path in (MAIN, GPU):
        content = read(path)
        mounts = [
            mount.split(":")[0]
            for service in content["services"].values()
            for mount in service.get("volumes", [])
        ]
        folders = [name for name in mounts if name.startswith(".")]

        assert [] == [name for name in folders if not (ROOT / name).is_dir()]
        assert set(mounts) - set(folders) == set(content["volumes"])


def test_the_service_is_given_time_to_drain() -> None:
    """Docker kills only after drain and shutdown; every variable is a setting."""
    service = read(MAIN)["services"]["semsr"]
    variables = service["environment"]
    end_s = float(variables["SEMSR_DRAIN_S"]) + float(variables["SEMSR_SHUTDOWN_TIMEOUT_S"])

    assert set() == {name.removeprefix("SEMSR_").lower() for name in variables} - set(
        Settings.model_fields
    )
    assert end_s + 5 <= seconds(service["stop_grace_period"])


def test_targets_of_the_build_are_stages() -> None:
    """The Dockerfile has what compose asks for."""
    services = all_services()

    assert {"cpu", "gpu"} == {services[name]["build"]["target"] for name in ("semsr", "gpu:semsr")}
    assert {"cpu", "gpu"} <= set(read_stages())


def test_prometheus_and_grafana_find_each_other() -> None:
    """Targets are services, Grafana's source is Prometheus, its folder has the dashboards."""
    services = read(MAIN)["services"]
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    [source] = read(PROVISIONING / "datasources" / "prometheus.yml")["datasources"]
    [provider] = read(PROVISIONING / "dashboards" / "semsr.yml")["providers"]
    folders = dict(mount.split(":")[:2][::-1] for mount in services["grafana"]["volumes"])
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

    assert ["semsr:8000"] == jobs["semsr"]["static_configs"][0]["targets"]
    assert ["dcgm-exporter"] == jobs["dcgm"]["dns_sd_configs"][0]["names"]
    assert {"semsr", "dcgm-exporter"} <= set(services)
    assert "http://prometheus:9090" == source["url"]
    assert config["global"]["scrape_interval"] == source["jsonData"]["timeInterval"]
    dashboards = ROOT / folders[provider["options"]["path"]]
    assert (dashboards / Path(home).name).is_file()
    assert Path(home).parent == Path(provider["options"]["path"])
