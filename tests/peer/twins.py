"""PyKEEN's modules holding our parameters.

Shapes  E entities, R relations, D real numbers per entity, W numbers per relation.

    what            here                                     there
    complex vector  all real parts, then all imaginary ones  real and imaginary part of each number in turn
    inverse of r    row r + R                                row 2 r + 1; r itself is row 2 r
    cp, simple      one table, head half and tail half       two tables
    tucker's core   (W, D^2)                                 (D, W, D)
    conve's bias    the last number of an entity             a table of its own
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from pykeen.models import CP, RESCAL, ComplEx, ConvE, DistMult, ERModel, RotatE, SimplE, TransE, TuckER
from pykeen.nn.representation import Representation
from pykeen.triples.triples_factory import KGInfo
from torch import Tensor
from torch.nn.functional import pad

from kge.models.base import AbstractModel


def twin(name: str, model: AbstractModel) -> ERModel:
    """PyKEEN's model of that name with the parameters of ours, in evaluation mode."""
    peer = TWINS[name](model, _info(model))
    return peer.to(model.entities.dtype).eval()


def rotate_by_number(model: AbstractModel) -> list[ERModel]:
    """PyKEEN's RotatE of each complex number alone, because over several it takes another norm."""
    numbers = range(model.relations.shape[1])
    return [_rotate(model, _info(model), [number]).to(model.entities.dtype).eval() for number in numbers]


def with_tails_exchanged(peer: SimplE) -> SimplE:
    """PyKEEN's SimplE that reads the tail half of a tail where it reads the head half of a head."""
    peer.interaction._tail_indices = (1, 0)
    return peer


def _info(model: AbstractModel) -> KGInfo:
    return KGInfo(model.num_entities, model.num_relations, create_inverse_triples=model.reciprocal)


def _fill(representation: Representation, values: Tensor) -> None:
    """Without the penalty that some of PyKEEN's models have by default."""
    representation.regularizer = None
    table = representation._embeddings.weight
    table.data = values.detach().reshape(table.shape).clone()


def _relations(model: AbstractModel) -> Float[Tensor, "rows W"]:
    """The relation table with each inverse behind its relation."""
    if not model.reciprocal:
        return model.relations
    return model.relations.unflatten(0, (2, -1)).transpose(0, 1).flatten(0, 1)


def _paired(values: Float[Tensor, "rows D"]) -> Float[Tensor, "rows D"]:
    """Real and imaginary parts in turn."""
    return values.unflatten(1, (2, -1)).transpose(1, 2).flatten(1)


def _plain(class_: type[ERModel]) -> Callable[[AbstractModel, KGInfo], ERModel]:
    def build(model: AbstractModel, info: KGInfo) -> ERModel:
        options = {"scoring_fct_norm": model.norm} if class_ is TransE else {}
        peer = class_(triples_factory=info, embedding_dim=model.entities.shape[1], **options)
        _fill(peer.entity_representations[0], model.entities)
        _fill(peer.relation_representations[0], _relations(model))
        return peer

    return build


def _complex(model: AbstractModel, info: KGInfo) -> ERModel:
    peer = ComplEx(triples_factory=info, embedding_dim=model.entities.shape[1] // 2)
    _fill(peer.entity_representations[0], _paired(model.entities))
    _fill(peer.relation_representations[0], _paired(_relations(model)))
    return peer


def _rotate(model: AbstractModel, info: KGInfo, numbers: list[int] | None = None) -> ERModel:
    """With some of the complex numbers, or with all."""
    kept = list(range(model.relations.shape[1])) if numbers is None else numbers
    peer = RotatE(triples_factory=info, embedding_dim=len(kept))
    phases = _relations(model)[:, kept]
    _fill(peer.entity_representations[0], _paired(model.entities.unflatten(1, (2, -1))[:, :, kept].flatten(1)))
    _fill(peer.relation_representations[0], torch.stack([phases.cos(), phases.sin()], dim=2))
    return peer


def _cp(model: AbstractModel, info: KGInfo) -> ERModel:
    peer = CP(triples_factory=info, embedding_dim=model.relations.shape[1], rank=1)
    for representation, half in zip(peer.entity_representations, model.entities.chunk(2, dim=1), strict=True):
        _fill(representation, half)
    _fill(peer.relation_representations[0], _relations(model))
    return peer


def _simple(model: AbstractModel, info: KGInfo) -> ERModel:
    peer = SimplE(triples_factory=info, embedding_dim=model.entities.shape[1] // 2)
    for representations, table in (
        (peer.entity_representations, model.entities),
        (peer.relation_representations, _relations(model)),
    ):
        for representation, half in zip(representations, table.chunk(2, dim=1), strict=True):
            _fill(representation, half)
    return peer


def _tucker(model: AbstractModel, info: KGInfo) -> ERModel:
    dim, width = model.entities.shape[1], model.relations.shape[1]
    rates = {"dropout_0": 0.0, "dropout_1": 0.0, "dropout_2": 0.0}
    peer = TuckER(triples_factory=info, embedding_dim=dim, relation_dim=width, apply_batch_normalization=False, **rates)
    _fill(peer.entity_representations[0], model.entities)
    _fill(peer.relation_representations[0], _relations(model))
    peer.interaction.core_tensor.data = model.core.detach().view(width, dim, dim).transpose(0, 1).contiguous()
    return peer


def _conve(model: AbstractModel, info: KGInfo) -> ERModel:
    """Built for padding 0, which PyKEEN has; its query has a number more, which meets a zero in every tail."""
    assert model.padding == 0
    dim, (rows, width), (filters, _, *kernel) = model.entities.shape[1], model.image, model.filters.shape
    peer = ConvE(
        info,
        embedding_dim=dim,
        embedding_height=rows // 2,
        embedding_width=width,
        output_channels=filters,
        kernel_height=kernel[0],
        kernel_width=kernel[1],
        input_dropout=0.0,
        output_dropout=0.0,
        feature_map_dropout=0.0,
        apply_batch_normalization=bool(model.norms),
    )
    _fill(peer.entity_representations[0], pad(model.entities[:, :-1], (0, 1)))
    _fill(peer.entity_representations[1], model.entities[:, -1])
    _fill(peer.relation_representations[0], _relations(model))
    convolution = next(layer for layer in peer.interaction.hr2d if isinstance(layer, torch.nn.Conv2d))
    convolution.weight.data, convolution.bias.data = model.filters.detach(), model.filter_bias.detach()
    projection = peer.interaction.hr1d[0]
    projection.weight.data, projection.bias.data = pad(model.weight, (0, 0, 0, 1)).data, pad(model.bias, (0, 1)).data
    for mine, theirs in zip(model.norms, batch_norms(peer), strict=bool(model.norms)):
        grown = (0, theirs.num_features - len(mine.scale))
        theirs.weight.data, theirs.bias.data = pad(mine.scale, grown).data, pad(mine.shift, grown).data
        theirs.running_mean, theirs.running_var = pad(mine.running_mean, grown), pad(mine.running_var, grown, value=1.0)
    return peer


def batch_norms(peer: ERModel) -> list[torch.nn.Module]:
    """The batch normalisations of PyKEEN's ConvE, from the image to the query."""
    kinds = torch.nn.BatchNorm1d | torch.nn.BatchNorm2d
    return [layer for layer in peer.interaction.modules() if isinstance(layer, kinds)]


TWINS: Mapping[str, Callable[[AbstractModel, KGInfo], ERModel]] = {
    "rescal": _plain(RESCAL),
    "tucker": _tucker,
    "distmult": _plain(DistMult),
    "complex": _complex,
    "cp": _cp,
    "simple": _simple,
    "conve": _conve,
    "transe": _plain(TransE),
    "rotate": _rotate,
}
