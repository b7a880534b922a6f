"""Keys of a TrainingConfig that mean something only beside others."""

from collections.abc import Mapping

from kge.config import Value

# The key -> the one that must have one of these values for it to matter.
MATTERS: Mapping[str, tuple[str, tuple[Value, ...]]] = {
    "model.init.std": ("model.init.name", ("normal",)),
    "model.init.low": ("model.init.name", ("uniform",)),
    "model.init.high": ("model.init.name", ("uniform",)),
    "optimizer.momentum": ("optimizer.name", ("sgd",)),
    "schedule.factor": ("schedule.name", ("plateau",)),
    "schedule.patience": ("schedule.name", ("plateau",)),
    "schedule.threshold": ("schedule.name", ("plateau",)),
    "schedule.final": ("schedule.name", ("cosine",)),
    "regularizer.p": ("regularizer.name", ("lp",)),
    "regularizer.weighted": ("regularizer.name", ("lp",)),
    "regularizer.entity_weight": ("regularizer.name", ("lp",)),
    "regularizer.relation_weight": ("regularizer.name", ("lp",)),
    "regularizer.weight": ("regularizer.name", ("n3", "dura")),
    "regularizer.entity_share": ("regularizer.name", ("dura",)),
    "training.query_weight": ("training.type", ("k_vs_all",)),
    "negatives.head": ("training.type", ("negative_sampling",)),
    "negatives.tail": ("training.type", ("negative_sampling",)),
    "negatives.filtered": ("training.type", ("negative_sampling",)),
}
# The same for options of losses; apart, because a study leaves what cannot matter out of the cards of its spaces, and
# those of studies that have begun have it.
OPTIONS_MATTER: Mapping[str, tuple[str, tuple[Value, ...]]] = {
    "loss.alpha": ("loss.subsampling", ("base", "freq", "uniq")),
}
# Two keys that mean something together alone.
TOGETHER: tuple[tuple[str, str], ...] = (("early_stopping.floor_epoch", "early_stopping.floor_mrr"),)
# The penalty -> its weights, which are 0 unless they are given.
REGULARIZER_WEIGHTS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "lp": ("regularizer.entity_weight", "regularizer.relation_weight"),
    "n3": ("regularizer.weight",),
    "dura": ("regularizer.weight",),
}
