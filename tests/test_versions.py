"""The versions that CI runs are those that pyproject.toml and the documents speak of."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = {"all": "constraints.txt", "newest": ".ci/newest.txt", "oldest": ".ci/oldest.txt"}


def _pins(name):
    lines = (ROOT / PINNED[name]).read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {package.lower(): Version(version) for package, version in pairs}


def _requirements(words):
    return {r.name.lower(): r.specifier for r in map(Requirement, words)}


CORE = _requirements([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["cli"]])


@pytest.mark.parametrize("package", CORE)
def test_the_oldest_versions_admitted_are_the_oldest_tested(package):
    floors = [Version(s.version) for s in CORE[package] if s.operator == ">="]
    assert floors == [_pins("oldest")[package]]


@pytest.mark.parametrize("name", PINNED)
def test_the_versions_tested_are_admitted(name):
    pins = _pins(name)
    assert all(pins[package] in specifier for package, specifier in CORE.items())


@pytest.mark.parametrize("name", PINNED)
def test_the_faq_names_the_jax_tested(name):
    assert f"| {_pins(name)['jax']} |" in (ROOT / "docs" / "faq.md").read_text()


def test_the_classifiers_name_the_pythons_of_the_readme():
    found = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if "Python :: 3." in c}
    (row,) = re.findall(r"Python (3\.\d+) or newer", (ROOT / "README.md").read_text())
    assert PROJECT["requires-python"] == f">={row}"
    assert row == min(found, key=Version)


def test_the_citation_names_the_version_and_the_license():
    text = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.+)$", text, re.MULTILINE) == [PROJECT["version"]]
    assert re.findall(r"^license: (.+)$", text, re.MULTILINE) == [PROJECT["license"]]
    cited = yaml.safe_load(text)
    assert cited["title"] == PROJECT["name"]
    (paper,) = cited["references"]
    assert paper["title"].replace("HyperFace", "{HyperFace}") in (ROOT / "README.md").read_text()


def test_the_tests_that_other_versions_run_exist():
    listed = [line for line in (ROOT / ".ci/core.txt").read_text().splitlines() if "::" in line]
    assert listed
    for path, _, name in (line.partition("::") for line in listed):
        assert f"def {name}(" in (ROOT / path).read_text(), name
