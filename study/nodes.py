"""What an attempt takes, and what the nodes of the connected Ray cluster offer."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Self

import ray

from study.config import ResourcesSection

_EVERYWHERE = ("CPU", "GPU", "memory", "object_store_memory")  # what Ray counts on nodes by itself


@dataclass(frozen=True, kw_only=True)
class Slots:
    """What one attempt takes, and how many may run at once (None: as many as fit)."""

    cpus: float = 1
    gpus: float = 0
    custom: Mapping[str, float] = field(default_factory=dict)  # as the nodes of a cluster name them
    max_concurrent: int | None = None

    @classmethod
    def of(cls, resources: ResourcesSection) -> Self:
        """What a study file asks of a cluster for each trial."""
        return cls(
            cpus=resources.cpus_per_trial,
            gpus=resources.gpus_per_trial,
            custom=resources.custom,
            max_concurrent=resources.max_concurrent,
        )

    @property
    def threads(self) -> int:
        """Threads of torch in a worker."""
        return max(1, math.floor(self.cpus))

    @property
    def device(self) -> str:
        """Where a worker trains."""
        return "cuda" if self.gpus > 0 else "cpu"

    @property
    def needs(self) -> dict[str, float]:
        """What one attempt takes, as Ray names it."""
        return {kind: need for kind, need in {"CPU": self.cpus, "GPU": self.gpus, **self.custom}.items() if need > 0}

    @property
    def width(self) -> int:
        """How many attempts run at once on the nodes that the connected cluster has now."""
        return sum(self._fit(node) for node in living()) if self.max_concurrent is None else self.max_concurrent

    @property
    def shortage(self) -> str:
        """What is lacking when no node has room for an attempt; where `max_concurrent` is given, one may still join."""
        if self.width > 0:
            return ""
        needs = ", ".join(f"{need:g} {kind}" for kind, need in self.needs.items())
        return f"{needs} per trial where the cluster has {node_kinds()}"

    def share(self, node: Mapping[str, float]) -> float:
        """An attempt's part of the memory of a node, or of the one GPU that it trains on."""
        if self.gpus > 0:
            return min(1.0, self.gpus)
        fit = self._fit(node)
        return 1 / max(1, fit if self.max_concurrent is None else min(fit, self.max_concurrent))

    def _fit(self, node: Mapping[str, float]) -> int:
        return min(math.floor(node.get(kind, 0) / need + 1e-6) for kind, need in self.needs.items())


def node_kinds() -> str:
    """The nodes of the connected cluster by what they offer: "1 x (0 CPU), 2 x (16 CPU, 1 GPU H100)"."""
    kinds = Counter(_kind(node) for node in living())
    return ", ".join(f"{count} x ({kind})" for kind, count in sorted(kinds.items())) or "no node"


def living() -> list[dict[str, float]]:
    """What each living node offers, by Ray's names."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


@cache
def offered(node: str) -> dict[str, float]:
    """What a node offers."""
    return next(each["Resources"] for each in ray.nodes() if each["NodeID"] == node)  # type: ignore[no-untyped-call]


def _kind(node: Mapping[str, float]) -> str:
    model = "".join(f" {name.partition(':')[2]}" for name in sorted(node) if name.startswith("accelerator_type:"))
    gpus = [f"{node['GPU']:g} GPU{model}"] if node.get("GPU") else []
    others = [f"{node[name]:g} {name}" for name in sorted(node) if name not in _EVERYWHERE and ":" not in name]
    return ", ".join([f"{node.get('CPU', 0):g} CPU", *gpus, *others])
