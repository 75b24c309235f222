"""Packages of Node, for the peers that are written for it: in the user's cache folder, never in the project."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Final

import platformdirs

PATIENCE_S: Final = 120.0


def modules() -> Path:
    """Where packages are, if they were installed."""
    return platformdirs.user_cache_path("jobctl-bench") / "node" / "node_modules"


def why_absent(*packages: str) -> str | None:
    """Why these cannot be used; None if they can."""
    if shutil.which("node") is None:
        return "there is no node here"
    if not all((modules() / each).is_dir() for each in packages):
        return f"{' and '.join(packages)} not installed: add --npm to have npm do it, in the user's cache folder"
    return None


def version_of(package: str) -> str:
    """That of an installed one."""
    return str(json.loads((modules() / package / "package.json").read_text("utf-8"))["version"])


def install(*packages: str) -> str | None:
    """Have npm put ``name@version`` of each into the cache folder; why that failed."""
    npm = shutil.which("npm")
    if npm is None:
        return "there is no npm here"
    folder = modules().parent
    folder.mkdir(parents=True, exist_ok=True)
    argv = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", *packages]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE_S)  # noqa: S603
    except subprocess.TimeoutExpired:
        return f"npm took more than {PATIENCE_S:.0f} s"
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["npm failed"])[-1]
