"""Metadata of the package: files that repeat a fact agree on it."""

import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


def test_the_citation_and_the_changelog_have_the_version_of_the_package():
    (cited,) = re.findall(r"^version: (.+)$", text("CITATION.cff"), re.MULTILINE)
    assert cited == PROJECT["version"]
    (license_,) = re.findall(r"^license: (.+)$", text("CITATION.cff"), re.MULTILINE)
    assert license_ == PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in text("LICENSE") and PROJECT["license-files"] == ["LICENSE"]
    assert re.search(rf"^## \[({PROJECT['version']}|Unreleased)\]", text("CHANGELOG.md"), re.M)


def test_all_declared_versions_of_python_are_tested():
    prefix = "Programming Language :: Python :: 3."
    declared = {"3." + c.removeprefix(prefix) for c in PROJECT["classifiers"] if prefix in c}
    (matrix,) = re.findall(r"^        python: \[(.+)\]$", text(".github/workflows/tests.yml"), re.M)
    assert set(re.findall(r'"([\d.]+)"', matrix)) == declared
    least = PROJECT["requires-python"].removeprefix(">=")
    assert min(declared, key=lambda v: int(v.split(".")[1])) == least


def test_the_import_of_the_package_loads_no_slow_package():
    """They are imported when a name that needs them is first used."""
    slow = ("jax", "matplotlib", "sklearn", "pooch", "h5py", "scipy")
    code = f"import sys, eventsnn; print([name for name in {slow} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
