"""What a release consists of says one version and one list of dependencies, and is what the tools that read it take."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from aerialseg._version import __version__

yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra 'dev'")

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CONTAINERFILE = ROOT / "pipelines" / "container" / "Containerfile"


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def parsed(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return values


def test_one_version_everywhere() -> None:
    assert parsed(ROOT / "CITATION.cff")["version"] == __version__
    assert parsed(ROOT / "pipelines" / "conda" / "recipe.yaml")["context"]["version"] == __version__
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == __version__
    for path in (
        CONTAINERFILE,
        ROOT / "pipelines" / "units" / "kubernetes-cronjob.yaml",
        ROOT / "docs" / "clusters.md",
    ):
        tags = set(re.findall(r"aerialseg:(\d+\.\d+\.\d+)", path.read_text(encoding="utf-8")))
        assert tags == {__version__}, path


def test_a_light_install_needs_neither_torch_nor_fastai() -> None:
    names = {re.split(r"[<>=\[]", one)[0] for one in project()["dependencies"]}
    assert "openvino" in names
    assert not names & {"torch", "torchvision", "fastai", "onnx", "scipy"}


def test_the_conda_recipe_has_the_dependencies_of_the_package() -> None:
    run = parsed(ROOT / "pipelines" / "conda" / "recipe.yaml")["requirements"]["run"]
    ours = [re.sub(r"([\w-]+)(.*)", r"\1 \2", one) for one in project()["dependencies"]]
    assert sorted(run) == sorted([f"python {project()['requires-python']}", *ours])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_are_what_the_forge_reads(path: Path) -> None:
    workflow = parsed(path)
    assert workflow[True], "YAML 1.1 reads the key 'on' as true, and the forge does not mind"
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job["runs-on"], name
        assert set(job.get("needs", "").split()) <= set(workflow["jobs"])
        for step in job["steps"]:
            assert len({"uses", "run"} & set(step)) == 1, step
            assert re.fullmatch(r"[\w-]+/[\w-]+@\S+", step.get("uses", "a/b@c"))


def test_tests_run_on_three_systems_and_a_tag_alone_releases() -> None:
    tests, release = (parsed(ROOT / ".github" / "workflows" / f"{name}.yml") for name in ("tests", "release"))
    systems = tests["jobs"]["tests"]["strategy"]["matrix"]["os"]
    assert [name.partition("-")[0] for name in systems] == ["ubuntu", "macos", "windows"]
    assert release[True] == {"push": {"tags": ["v*"]}}
    publish = release["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert "password" not in str(publish)


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", CONTAINERFILE.read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_container_runs_as_a_user_without_rights_from_a_pinned_image() -> None:
    stages: dict[str, list[tuple[str, str]]] = {}
    for word, rest in instructions():
        assert word in {"FROM", "COPY", "RUN", "ENV", "USER", "WORKDIR", "CMD"}, word
        if word == "FROM":
            image, _, name = rest.partition(" AS ")
            assert image in stages or re.fullmatch(r"docker\.io/library/python:3\.\d+-slim-\w+", image)
            stages[name] = []
        else:
            stages[list(stages)[-1]].append((word, rest))
    assert list(stages) == ["build", "cpu", "cuda"]
    for name in ("cpu", "cuda"):
        users = [rest for word, rest in stages[name] if word == "USER"]
        assert int(users[-1]) > 0
    for steps in stages.values():
        for word, rest in steps:
            if word == "RUN":
                subprocess.run(["bash", "-n", "-c", rest], check=True)
                assert "apt-get" not in rest or "rm -rf /var/lib/apt" in rest
            if word == "COPY" and not rest.startswith("--from=build "):
                assert (ROOT / shlex.split(rest)[0]).exists()


@pytest.mark.slow
def test_the_wheel_has_the_model_and_fits_into_the_index(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, timeout=280)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 100e6
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"aerialseg/embedded/{name}" for name in ("card.json", "network.onnx", "weights.safetensors")} <= names
    assert not [name for name in names if not name.startswith(("aerialseg/", "aerialseg-"))]
