"""The image without an engine: the Dockerfile's own commands in a clean place, as uid 65532; manifests.

Where pytest is not root the same runs as whoever it is. What only an engine can show (layers, mounts) is not.
"""

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import check_jsonschema
import jsonschema
import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement
from waiting import wait_until

from poller import __version__
from poller.config import Settings, load
from poller.simulators import Options, serve

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
UID = 65532
IS_ROOT = os.getuid() == 0
TOKEN = "0123456789abcdef0123456789abcdef"
SECRETS = {
    "redis-url": "redis://valkey:6379/0",
    "drum-token": "a-token",
    "slack-url": "https://hooks.slack.com/services/T/B/x",
    "billing-secret": "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "web-token": TOKEN,
    "metrics-token": TOKEN,
}


# --- the Dockerfile -------------------------------------------------------------------------------
@dataclass(frozen=True)
class Instruction:
    """One line of the Dockerfile, its continuations joined."""

    word: str
    rest: str


def stages() -> list[list[Instruction]]:
    """The Dockerfile's stages; what stands before the first FROM is left out."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    found: list[list[Instruction]] = []
    for line in text.replace("\\\n", " ").splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        if found and word:
            found[-1].append(Instruction(word, rest.strip()))
    return found


def of(stage: list[Instruction], word: str) -> list[str]:
    """What stands behind each instruction of this kind."""
    return [each.rest for each in stage if each.word == word]


def pairs(stage: list[Instruction], word: str) -> dict[str, str]:
    """ENV, LABEL or ARG as a table."""
    return dict(part.split("=", 1) for rest in of(stage, word) for part in shlex.split(rest))


def test_the_image_has_no_root_and_is_pinned_by_hashes() -> None:
    """Multi-stage, slim, uid 65532, exec form, health check, volume, labels, its version ours."""
    build, final = stages()
    assert "ARG PYTHON_IMAGE=python:3.11-slim" in (ROOT / "Dockerfile").read_text("utf-8")
    assert of(final, "USER") == [f"{UID}:{UID}"]
    assert json.loads(of(final, "ENTRYPOINT")[0]) == ["poller"]
    assert json.loads(of(final, "CMD")[0]) == ["run"]
    assert json.loads(of(final, "HEALTHCHECK")[0].partition("CMD ")[2]) == ["poller", "health"]
    assert of(final, "VOLUME") == ["/data"]
    assert pairs(final, "ENV")["POLLER_DATA_DIR"] == "/data"
    assert pairs(final, "ARG")["VERSION"] == __version__
    labels = {name.rpartition(".")[2] for name in pairs(final, "LABEL")}
    assert labels >= {"title", "description", "licenses", "version", "revision", "source"}
    installs = [rest for rest in of(build, "RUN") if "pip install" in rest]
    assert all("--require-hashes" in rest or "--no-index" in rest for rest in installs)


def locked(name: str) -> dict[str, str]:
    """Package -> version as pinned in a requirements file; every one must have hashes."""
    text = (DEPLOY / name).read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert all("--hash=sha256:" in line for line in lines)
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE)
    return dict(line.split(";")[0].split("--hash")[0].strip().split("==") for line in lines)


def test_what_is_pinned_is_what_the_project_needs() -> None:
    """Each dependency of pyproject.toml is pinned by hash, within its bounds; no index is named."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    for needed, pinned in (
        (project["project"]["dependencies"], locked("requirements.txt")),
        (project["build-system"]["requires"], locked("requirements-build.txt")),
    ):
        for each in map(Requirement, needed):
            assert each.specifier.contains(pinned[each.name.lower()]), each


@dataclass(frozen=True)
class Image:
    """What the Dockerfile builds, below a directory instead of /."""

    root: Path

    def inside(self, text: str) -> str:
        """The same words, with the image's paths as they are here."""
        return re.sub(r"(?<![\w/])/(src|opt|data|etc/poller)\b", rf"{self.root}/\1", text)

    def environment(self, stage: list[Instruction]) -> dict[str, str]:
        """What the stage's ENV says, and nothing of the machine but where its certificates are."""
        given = {name: os.environ[name] for name in ("SSL_CERT_FILE", "PIP_CERT") if name in os.environ}
        path = f"{self.root}/bin:/usr/bin:/bin"
        said = {name: self.inside(value) for name, value in pairs(stage, "ENV").items()}
        return {"PATH": path, "HOME": "/", **given, **said}


def interpreter() -> str:
    """A Python that uid 65532 may run: our own may lie in somebody's home."""
    for each in (sys._base_executable, *map(shutil.which, ("python3.13", "python3.12", "python3.11"))):
        for path in (each, f"/usr/bin/{Path(each).name}" if each else None):
            if path and Path(path).exists() and _runs(path):
                return path
    pytest.skip(f"no Python with venv here that uid {UID} may run")


def _runs(path: str) -> bool:
    try:
        code = subprocess.run([path, "-c", "import venv, ensurepip"], check=False, **as_user()).returncode
    except PermissionError:
        return False
    return code == 0


def as_user() -> dict[str, Any]:
    """How to run as the image's user, where that is possible."""
    return {"user": UID, "group": UID, "extra_groups": [], "cwd": "/"} if IS_ROOT else {"cwd": "/"}


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The Dockerfile's COPY and RUN lines, done in a directory that is read-only afterwards."""
    made = Image(Path(tempfile.mkdtemp(prefix="poller-image-")))
    made.root.chmod(0o755)
    try:
        _build(made)
        yield made
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(made.root)], check=False)
        shutil.rmtree(made.root)


def _build(image: Image) -> None:
    for name in ("bin", "src", "opt"):
        (image.root / name).mkdir()
    (image.root / "bin" / "python").symlink_to(interpreter())
    build, final = stages()
    for each in build:
        if each.word == "COPY":
            _copy(shlex.split(each.rest), image.root / "src")
        elif each.word == "RUN":
            _do(image, each.rest, image.environment(build))
    for rest in of(final, "RUN"):
        _do(image, rest if IS_ROOT else re.sub(r"-[og] \d+", "", rest), image.environment(final))
    subprocess.run(["chmod", "-R", "a-w,a+rX", str(image.root / "opt"), str(image.root / "etc")], check=True)


def _copy(paths: list[str], folder: Path) -> None:
    *sources, target = paths
    for source in sources:
        goal = folder / target / (Path(source).name if target.endswith("/") else "")
        goal.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, goal, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, goal)


def _do(image: Image, command: str, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", image.inside(command)],
        cwd=image.root / "src",
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_the_image_installs_runs_and_stops(image: Image) -> None:
    """As uid 65532 it serves, is healthy, writes nowhere but to /data, and ends with 0 at SIGTERM."""
    final = stages()[-1]
    entry = json.loads(of(final, "ENTRYPOINT")[0])
    health = json.loads(of(final, "HEALTHCHECK")[0].partition("CMD ")[2])
    before = _tree(image)
    async with serve("drum", options=Options(records=20, seed=3)) as sim:
        environment = {
            **image.environment(final),
            "POLLER_DRUM_TOKEN": sim.token,
            "POLLER_DRUM_BASE_URL": sim.url,
            "POLLER_WEB__PORT": "0",
        }

        async def start(words: list[str]) -> asyncio.subprocess.Process:
            program = shutil.which(words[0], path=environment["PATH"])
            assert program == f"{image.root}/opt/poller/bin/poller"
            given = {**as_user(), "cwd": image.inside(of(final, "WORKDIR")[0])}
            silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            return await asyncio.create_subprocess_exec(
                program, *words[1:], env=environment, **silent, **given
            )

        running = await start([*entry, *json.loads(of(final, "CMD")[0])])

        async def is_healthy() -> bool:
            assert running.returncode is None
            return await (await start(health)).wait() == 0

        try:
            await wait_until(is_healthy, "the HEALTHCHECK to succeed", 60)
            assert _uid_of(running.pid) == (UID if IS_ROOT else os.getuid())
            running.terminate()
            async with asyncio.timeout(25):
                assert await running.wait() == 0
        finally:
            if running.returncode is None:
                running.kill()
                await running.wait()
        assert await (await start(health)).wait() != 0
    assert _tree(image) == before
    assert (image.root / "data" / "appendonlydir").is_dir()


def _uid_of(pid: int) -> int:
    process = Path(f"/proc/{pid}")
    return process.stat().st_uid if process.exists() else os.getuid()


def _tree(image: Image) -> dict[str, float]:
    """Everything below the image's root but /data, and when it was changed."""
    found = (path for part in ("opt", "etc", "src", "bin") for path in (image.root / part).rglob("*"))
    return {str(path): path.lstat().st_mtime for path in found}


# --- compose, Kubernetes, systemd ---------------------------------------------------------------------
@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """The secrets as files."""
    for name, value in SECRETS.items():
        (tmp_path / name).write_text(value)
    return tmp_path


def loaded(environ: Mapping[str, str], secrets: Path, text: str = "") -> Settings:
    """The settings that a manifest makes, its secrets mounted elsewhere; nothing in them is unknown."""
    here = {name: value.replace("/run/secrets", str(secrets)) for name, value in environ.items()}
    config = secrets / "poller.toml"
    config.write_text(text.replace("/run/secrets/poller", str(secrets)))
    config.chmod(0o600)
    settings = load(config, environ=here, directory=secrets)
    assert not settings.warnings
    return settings


def test_compose_is_valid_and_keeps_everything(secrets: Path) -> None:
    """By the schema; Valkey appends and never evicts, poller has 30 s to end, secrets are files."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    schemas = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor"
    jsonschema.validate(compose, json.loads((schemas / "compose-spec.json").read_text("utf-8")))
    poller, valkey, embedded = (compose["services"][name] for name in ("poller", "valkey", "embedded"))
    command = " ".join(valkey["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert valkey["volumes"] == ["valkey:/data"]
    assert embedded["volumes"] == ["data:/data"]
    assert embedded["profiles"] == ["embedded"]
    for service in (poller, embedded):
        assert service["image"] == f"poller:{__version__}"
        assert service["user"] == f"{UID}:{UID}"
        assert service["read_only"]
        assert service["stop_grace_period"] == "30s"
        assert service["healthcheck"]["test"] == ["CMD", "poller", "health"]
        assert service["ports"] == ["127.0.0.1:8080:8080"]
        assert {f"./secrets/{name}" for name in service["secrets"]} == {
            each["file"] for each in compose["secrets"].values()
        }
        environ = {name: re.sub(r"\$\{\w+:-(\w+)\}", r"\1", v) for name, v in service["environment"].items()}
        settings = loaded(environ, secrets)
        assert (settings.redis.url is None) is (service is embedded)
        assert set(settings.webhooks) == {"slack"}


def manifests() -> dict[tuple[str, str], Any]:
    """Every object of the kustomization, by kind and name, and the example of the Secret."""
    folder = DEPLOY / "kubernetes"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
    files = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml", "secret.example.yaml"}
    assert set(listed["resources"]) == files
    assert listed["images"] == [{"name": "poller", "newTag": __version__}]
    texts = [(folder / name).read_text("utf-8") for name in (*sorted(files), "secret.example.yaml")]
    found = [each for text in texts for each in yaml.safe_load_all(text)]
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_every_manifest_is_valid(version: str) -> None:
    """By Kubernetes' own schemas, unknown fields refused."""
    for each in manifests().values():
        kubernetes_validate.validate(each, version, strict=True)


def test_the_deployment_is_two_locked_down_replicas() -> None:
    """Probes, time to end, uid, read-only root, and a budget, a Service and a policy that mean its pods."""
    found = manifests()
    deployment = found["Deployment", "poller"]["spec"]
    pod, [container] = deployment["template"]["spec"], deployment["template"]["spec"]["containers"]
    assert deployment["replicas"] == 2
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert pod["terminationGracePeriodSeconds"] == 30
    assert pod["securityContext"]["runAsUser"] == UID
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    labels = deployment["template"]["metadata"]["labels"].items()
    assert found["Service", "poller"]["spec"]["selector"].items() <= labels
    assert found["PodDisruptionBudget", "poller"]["spec"]["selector"]["matchLabels"].items() <= labels
    assert found["NetworkPolicy", "poller"]["spec"]["podSelector"]["matchLabels"].items() <= labels
    assert {"Ingress", "Egress"} == set(found["NetworkPolicy", "poller"]["spec"]["policyTypes"])
    valkey = found["StatefulSet", "valkey"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--appendonly yes" in " ".join(valkey)
    assert "--maxmemory-policy noeviction" in " ".join(valkey)


def test_the_settings_of_the_config_map_load_with_the_secret(secrets: Path) -> None:
    """Every secret comes by a `_file` that the Secret has; the commented receiver too is right."""
    found = manifests()
    text = found["ConfigMap", "poller"]["data"]["poller.toml"]
    whole = re.sub(r"^# (?=\[webhooks|\w+ = )", "", text, flags=re.MULTILINE)
    asked = set(re.findall(r"/run/secrets/poller/([\w-]+)", whole))
    assert asked == found["Secret", "poller"]["stringData"].keys() == SECRETS.keys()
    assert set(loaded({}, secrets, text).webhooks) == {"slack"}
    settings = loaded({}, secrets, whole)
    assert set(settings.webhooks) == {"slack", "billing"}
    assert settings.web.host == "0.0.0.0"
    mounts = {mount["mountPath"] for mount in _container(found)["volumeMounts"]}
    assert mounts == {"/etc/poller", "/run/secrets/poller", "/tmp", "/data"}


def _container(found: Mapping[tuple[str, str], Any]) -> Any:
    return found["Deployment", "poller"]["spec"]["template"]["spec"]["containers"][0]


def test_the_unit_signals_poller_alone() -> None:
    """KillMode=mixed: else systemd would stop the embedded server under the last commit."""
    lines = (DEPLOY / "systemd" / "poller.service").read_text("utf-8").splitlines()
    assert {"KillMode=mixed", "TimeoutStopSec=30s", "RestartPreventExitStatus=2", "DynamicUser=yes"} <= {
        *lines
    }
    assert "ExecStart=/opt/poller/bin/poller run" in lines


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_the_unit_is_valid(tmp_path: Path) -> None:
    """systemd-analyze verify has nothing to say."""
    text = (DEPLOY / "systemd" / "poller.service").read_text("utf-8")
    unit = tmp_path / "poller.service"
    unit.write_text(text.replace("/opt/poller/bin/poller", "/bin/true"))
    said = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
