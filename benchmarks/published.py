"""The 52 published settings of Kamigaito & Hayashi (ACL 2021) as files of `kge train`.

    python -m benchmarks.published settings.json studies/published

SETTINGS is a list of records, one a published file, with the values that are in force there: what the paper's code
ignores, replaces or doubles is resolved in them already, and their notes say so. What `kge train` does otherwise is
listed at the top of each file that is written.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]

_MODELS = {name: name.lower() for name in ("RESCAL", "TuckER", "DistMult", "ComplEx", "TransE", "RotatE")}
_LOSSES = {
    "ns": "ns",
    "ns_w_uni": "ns",
    "ns_w_freq": "ns_freq",
    "sans": "sans",
    "sce": "sce",
    "sce_w_bc": "sce_bc",
    "sce_w_ls": "sce_ls",
}
_TYPES = {"negative_sampling": "negative_sampling", "1vsAll": "one_vs_all"}
_FILE = """\
# {model} with {loss} on {dataset} as published ({file}; Kamigaito & Hayashi, ACL 2021).
# kge train studies/published/{name}.yaml --directory runs/published/{name}
{notes}"""


def main() -> None:
    """Convert every record."""
    settings, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for record in json.loads(settings.read_text()):
        (folder / f"{name_of(record)}.yaml").write_text("\n".join([head(record), *lines(record)]) + "\n")


def name_of(record: Record) -> str:
    """Model, data set and loss, in our words."""
    return f"{_MODELS[record['model']]}-{record['dataset'].lower()}-{_LOSSES[record['loss_key']]}"


def head(record: Record) -> str:
    """What the file is, and what is otherwise here."""
    notes = "".join(f"# Note: {note}.\n" for note in [*record["notes"], *_differences(record)])
    return _FILE.format(**{**record, "name": name_of(record), "notes": notes}).rstrip("\n")


def lines(record: Record) -> Iterator[str]:
    """The configuration, a section a line."""
    yield f"dataset: {record['dataset'].lower()}"
    for section, values in sections(record):
        yield f"{section}: {{{', '.join(f'{key}: {_yaml(value)}' for key, value in values.items())}}}"


def sections(record: Record) -> Iterator[tuple[str, dict[str, Any]]]:
    """What differs from the defaults of kge, and what is worth saying."""
    yield "model", _model(record)
    yield "loss", _loss(record)
    type_ = _TYPES[record["train_type"]]
    yield "training", {"type": type_, "batch_size": record["batch_size"], "max_epochs": record["max_epochs"]}
    if type_ == "negative_sampling":
        yield "negatives", {"head": record["num_neg_s"], "tail": record["num_neg_o"]}
    yield "optimizer", {"name": record["optimizer"].lower(), "lr": record["lr"]}
    yield "regularizer", _regularizer(record)
    patience, threshold = record["lr_patience_validations"], record["lr_threshold"]
    yield "schedule", {"name": "plateau", "factor": record["lr_factor"], "patience": patience, "threshold": threshold}
    floor = record["early_stop_threshold"]
    yield (
        "early_stopping",
        {
            "patience": record["early_stop_patience_validations"],
            "floor_epoch": floor["epochs"],
            "floor_mrr": floor["metric_value"],
        },
    )
    yield "validation", {"every": record["valid_every_epochs"], "block_size": record["eval_batch_size"]}


def _model(record: Record) -> dict[str, Any]:
    found = {"name": _MODELS[record["model"]], "dim": record["dim_entity"], "reciprocal": record["reciprocal"]}
    if record["model"] == "TransE":
        found["norm"] = int(record["l_norm"])
    dropout = {"entity": record["dropout_entity"], "relation": record["dropout_relation"]}
    used = {table: float(rate) for table, rate in dropout.items() if rate}
    return found | {"init": _init(record["entity_embedder"])} | ({"dropout": used} if used else {})


def _init(table: Record) -> dict[str, Any]:
    """How both tables start; a published uniform distribution without an upper bound has torch's: 1."""
    given = table["init_args"]
    bounds = {"uniform_": {"low": given.get("a"), "high": given.get("b", 1.0)}, "normal_": {"std": given.get("std")}}
    return {"name": table["init"].removesuffix("_"), **bounds.get(table["init"], {})}


def _loss(record: Record) -> dict[str, Any]:
    found: dict[str, Any] = {"name": _LOSSES[record["loss_key"]]}
    if found["name"] == "sce_ls":
        found["smoothing"] = record["label_smoothing"]
    if found["name"] in ("ns", "ns_freq", "sans"):
        found["margin"] = record["loss_arg"]
    if found["name"] == "sans":
        found["temperature"] = record["temperature"]
    return found


def _regularizer(record: Record) -> dict[str, Any]:
    tables = {"entity": record["entity_embedder"], "relation": record["relation_embedder"]}
    active = {table: each for table, each in tables.items() if each["reg_active"] and each["reg_weight"]}
    if not active:
        return {"name": "none"}
    first = next(iter(active.values()))
    weights = {f"{table}_weight": each["reg_weight"] for table, each in active.items()}
    return {"name": "lp", "p": int(first["reg_p"]), "weighted": first["reg_weighted"], **weights}


def _differences(record: Record) -> Iterator[str]:
    """What `kge train` does otherwise than the paper's program."""
    yield "published runs select by validation MRR filtered with test, too; here test is left out"
    entity, relation = record["entity_embedder"], record["relation_embedder"]
    inits = [(each["init"], each["init_args"]) for each in (entity, relation)]
    if record["model"] not in ("TuckER", "RotatE") and inits[0] != inits[1]:
        theirs = f"{relation['init']} {relation['init_args']}"
        yield f"published relations start by {theirs}; here both tables start as entities do"
    if record["subbatch_auto_tune"]:
        yield "published sub-batches weigh the data term by their number; here they change nothing"


def _yaml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_yaml(each)}' for key, each in value.items())}}}"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return f"{value:.10g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
