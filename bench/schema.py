"""The JSON Schema of ``run.json``, beside this file; ``python -m bench.schema`` prints it anew."""

import inspect
import sys
from importlib.resources import files
from typing import Any

import msgspec

from bench.result import SCHEMA, Run


def generate() -> dict[str, Any]:
    """The schema of ``bench.result.Run`` (JSON Schema 2020-12)."""
    schema = msgspec.json.schema(Run)
    for each in schema["$defs"].values():
        if "description" in each:  # Python 3.13 takes a docstring's indentation away, 3.11 leaves it
            each["description"] = inspect.cleandoc(each["description"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"jobctl bench, run.json {SCHEMA}",
    } | schema


def text() -> str:
    """As it stands in the file."""
    return msgspec.json.format(msgspec.json.encode(generate()), indent=2).decode() + "\n"


def shipped() -> str:
    """The file that is in the package."""
    return files("bench").joinpath("schema.json").read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.write(text())
