"""What a study ran on: the environment of its record by machine, programs and commit; the devices of its trainings."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise

from study.records import Place, StudyRecord
from study.report.text import plural

_PLACE = {"checkpoints", "nodes"}
_MACHINE = ("gpu", "cpu", "cpus", "nodes", "platform")


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
        f"{plural(len(trained[each]), 'training')} on {each} ({plural(len(hosts[each]), 'host')})"
        for each in sorted(trained)
    ]
    return ", ".join(parts)


def programs(environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Names and versions, by name."""
    return tuple(sorted((name, value) for name, value in environment.items() if not _is_elsewhere(name)))


def commit(environment: Mapping[str, str]) -> str:
    """Of the code, with a word on changes that were not committed; empty where it is not recorded."""
    return environment.get("git commit", "")


def changed(then: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """What differs between two environments, a phrase each; not where a study lives, which is said once."""
    names = sorted({*then, *now} - _PLACE)
    told = ((name, then.get(name, "none"), now.get(name, "none")) for name in names)
    return tuple(f"{name}: {before} then, {after} now" for name, before, after in told if before != after)


def continuations(record: StudyRecord) -> tuple[str, ...]:
    """What each resumption on other programs or another machine changed, a phrase each."""
    environments = [record.environment, *(each.environment for each in record.continuations)]
    return tuple("; ".join(changed(*pair)) for pair in pairwise(environments))


def _is_elsewhere(name: str) -> bool:
    return name in _MACHINE or name in {"checkpoints", "git commit"}
