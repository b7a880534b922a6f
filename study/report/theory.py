"""What theory says of a comparison of two arms: whether their losses have one optimum, and how exactly.

Kamigaito & Hayashi: Unified Interpretation of Softmax Cross-Entropy and Negative Sampling. ACL 2021.
https://aclanthology.org/2021.acl-long.429
"""

from dataclasses import dataclass

from study.records import Arm
from study.report.tables import SIMILAR, has_optimum, title

_LIMITS = {
    "smoothed": SIMILAR,
    "smoothed odds": SIMILAR,
    "subsampled, smoothed": SIMILAR,
    "weighted": "where both have the same weights",
    "subsampled": "where both have the same alpha",
    "order": "as far as the order of answers goes: neither optimum is a distribution",
}


@dataclass(frozen=True, kw_only=True)
class Support:
    """Does theory support comparing two arms, and why."""

    supported: bool
    sentence: str


def support(first: Arm, second: Arm) -> Support:
    """Of two arms of one study."""
    aims = [title(arm.objective) for arm in (first, second)]
    if first.objective != second.objective:
        return Support(
            supported=False,
            sentence=f"not supported: {first.loss} aims at {aims[0]}, {second.loss} at {aims[1]}, so the difference is"
            " one of objective as much as of anything else",
        )
    if not has_optimum(first.objective) and first.loss != second.loss:
        return Support(
            supported=False, sentence="not supported: with known answers left out neither loss has an optimum"
        )
    limit = _LIMITS.get(first.objective)
    if first.loss == second.loss:
        what = f"both arms have the loss {first.loss}"
        if limit is None:
            return Support(supported=True, sentence=f"supported: {what}, so the difference is not one of objective")
        return Support(supported=True, sentence=f"supported where both have its options alike: {what}")
    losses = f"{first.loss} and {second.loss} aim at {aims[0]}"
    return Support(supported=True, sentence=f"supported {limit}" if limit else f"supported: {losses}")
