"""What a study ran on: versions, hardware, git commit; recorded at its start and at each resumption on others."""

import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from kge.precision import has_bfloat16
from study.records import IN_FLOAT32

PACKAGES = ("torch", "numba", "ray", "optuna", "scikit-learn", "mlflow", "numpy", "pyarrow", "sqlalchemy", "kge-study")


@cache
def environment() -> Mapping[str, str]:
    """Names and values, for people; of this process, so a checkout that changes while it runs changes nothing."""
    versions = {package: _version(package) for package in PACKAGES}
    known = {
        "python": platform.python_version(),
        **versions,
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpus": str(os.cpu_count()),
        "gpu": _gpu(),
        "git commit": _commit(),
    }
    return {name: value for name, value in known.items() if value}


def device_name(device: str, precision: str = "float32") -> str:
    """What stands behind "cpu" or "cuda" in this process, marked where it trains in another precision than asked."""
    name = torch.cuda.get_device_name() if device == "cuda" else _cpu()
    return name + IN_FLOAT32 if precision == "bfloat16" and not has_bfloat16(device) else name


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _gpu() -> str:
    if not torch.cuda.is_available():
        return ""
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join(names)


def _commit() -> str:
    """Of the checkout that this file is in, marked when it has changes; an image has none and was told its own."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return os.environ.get("KGE_STUDY_COMMIT", "")
    head, changes = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{head} with changes" if head and changes else head


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
