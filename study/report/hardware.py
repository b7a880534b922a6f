"""The environment of a record, sorted into the machine, the programs and the commit of the code."""

from collections.abc import Mapping

_MACHINE = ("gpu", "cpu", "cpus", "nodes", "device", "platform")


def machine(environment: Mapping[str, str]) -> str:
    """GPU, processor and system in one line; empty where nothing is recorded."""
    cpus = environment.get("cpus", "")
    facts = {**environment, "cpus": f"{cpus} cores" if cpus else ""}
    return ", ".join(facts[name] for name in _MACHINE if facts.get(name))


def programs(environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Names and versions, by name."""
    return tuple(sorted((name, value) for name, value in environment.items() if not _is_elsewhere(name)))


def commit(environment: Mapping[str, str]) -> str:
    """Of the code, with a word on changes that were not committed; empty where it is not recorded."""
    return next((value for name, value in sorted(environment.items()) if _is_commit(name)), "")


def _is_commit(name: str) -> bool:
    return "commit" in name or name == "git"


def _is_elsewhere(name: str) -> bool:
    return name in _MACHINE or _is_commit(name)
