"""What a study ran on: the environment of its record by machine, programs and commit; the devices of its trainings."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise

from study.records import Place, StudyRecord

_PLACE = {"checkpoints", "nodes"}
_MACHINE = ("gpu", "cpu", "cpus", "nodes", "device", "platform")


def machine(environment: Mapping[str, str]) -> str:
    """GPU, processor and system in one line; empty where nothing is recorded."""
    cpus = environment.get("cpus", "")
    facts = {**environment, "cpus": f"{cpus} cores" if cpus else ""}
    return ", ".join(facts[name] for name in _MACHINE if facts.get(name))


def devices(places: Iterable[Place]) -> str:
    """What trained: "40 trainings on NVIDIA H100 (5 hosts), 1 training on AMD EPYC (1 host)"; empty if unknown.

    A node of a Ray cluster has another id each time that Ray starts; its host keeps its name.
    """
    trained, hosts = defaultdict[str, set[tuple[str, str, int]]](set), defaultdict[str, set[str]](set)
    for each in places:
        trained[each.device].add((each.arm, each.stage, each.trial))
        hosts[each.device].add(each.host)
    parts = [
        f"{_count(len(trained[each]), 'training')} on {each} ({_count(len(hosts[each]), 'host')})"
        for each in sorted(trained)
    ]
    return ", ".join(parts)


def programs(environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Names and versions, by name."""
    return tuple(sorted((name, value) for name, value in environment.items() if not _is_elsewhere(name)))


def commit(environment: Mapping[str, str]) -> str:
    """Of the code, with a word on changes that were not committed; empty where it is not recorded."""
    return next((value for name, value in sorted(environment.items()) if _is_commit(name)), "")


def changed(then: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """What differs between two environments, a phrase each; not where a study lives, which is said once."""
    names = sorted({*then, *now} - _PLACE)
    told = ((name, then.get(name, "none"), now.get(name, "none")) for name in names)
    return tuple(f"{name}: {before} then, {after} now" for name, before, after in told if before != after)


def continuations(record: StudyRecord) -> tuple[str, ...]:
    """What each resumption on other programs or another machine changed, a phrase each."""
    environments = [record.environment, *(each.environment for each in record.continuations)]
    return tuple("; ".join(changed(*pair)) for pair in pairwise(environments))


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


def _is_commit(name: str) -> bool:
    return "commit" in name or name == "git"


def _is_elsewhere(name: str) -> bool:
    return name in _MACHINE or name == "checkpoints" or _is_commit(name)
