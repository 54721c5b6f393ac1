"""Print the lowest versions that pyproject.toml allows for the tests, as pip constraints."""

import pathlib
import re
import tomllib

ROOT = pathlib.Path(__file__).parents[1]


def lowest():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in project["dependencies"] + project["optional-dependencies"]["test"]:
        yield re.sub(r">=([\w.]+)(,.*)?$", r"==\1", requirement)


if __name__ == "__main__":
    print("\n".join(lowest()))
