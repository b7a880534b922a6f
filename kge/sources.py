"""Named data sets: where they come from, how large they were published, what their files must hash to.

A checksum stands here where it is established, and nowhere else:

- fb15k-237, wn18rr, kinship, umls, nations: computed from the files themselves, whose counts are the published
  ones. kinship, umls and nations are the files that PyKEEN 1.11.1 ships.
- codex-s, codex-m, codex-l, yago3-10, wikidata5m: not known, because no file of them has been seen. What is fetched
  must have the published number of lines; its sha256 is said and kept beside the files, so that a later change is
  noticed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kge.data import SPLITS

_GITHUB = "https://raw.githubusercontent.com"
_VILLMOW = f"{_GITHUB}/villmow/datasets_knowledge_embedding/9e392453d6804d1f51c13e5650ae58ed48b638d5"
_CODEX = f"{_GITHUB}/tsafavi/codex/3132e426c2a6b643b70bad679905a3a6270be440/data/triples"
_ROTATE = f"{_GITHUB}/DeepGraphLearning/KnowledgeGraphEmbedding/2e440e0f9c687314d5ff67ead68ce985dc446e3a/data"
_PYKEEN = f"{_GITHUB}/pykeen/pykeen/v1.11.1/src/pykeen/datasets"
_ZENODO = "https://zenodo.org/record/5546383/files"  # Wikidata5m's authors' own copy


@dataclass(frozen=True, kw_only=True)
class Source:
    """The files of a data set by split: an address each, or names inside one archive."""

    files: Mapping[str, str]
    archive: str | None = None  # address of a .tar.gz or .zip
    sha256: Mapping[str, str] = field(default_factory=dict)  # of uncompressed files; what is not known is left out
    entities: int
    relations: int
    triples: Mapping[str, int]

    @property
    def unknown(self) -> tuple[str, ...]:
        """Splits whose checksum is not known."""
        return tuple(split for split in SPLITS if split not in self.sha256)


def _by_split(*values: str) -> dict[str, str]:
    return dict(zip(SPLITS, values, strict=True))


def _counts(train: int, valid: int, test: int) -> dict[str, int]:
    return {"train": train, "valid": valid, "test": test}


def _in_folder(address: str) -> dict[str, str]:
    return {split: f"{address}/{split}.txt" for split in SPLITS}


SOURCES: Mapping[str, Source] = {
    "fb15k-237": Source(
        files=_in_folder(f"{_VILLMOW}/FB15k-237"),
        sha256=_by_split(
            "61099230e4439f90885ca9767739e31e8e32f54736fa1c35952b27997bc7c08a",
            "749cbe9d923bac7b9354da5614ecfed2e0220256d442c3e04a6b303db1f273d9",
            "e2e35e8e6113de220140b6f44dc71a5207b0fc6872d575e874aefe13259b655b",
        ),
        entities=14_541,
        relations=237,
        triples=_counts(272_115, 17_535, 20_466),
    ),
    "wn18rr": Source(
        files=_in_folder(f"{_VILLMOW}/WN18RR/original"),
        sha256=_by_split(
            "038612e783c215ee5f3ca9fbfca27b8d0739be1028fe4ee7c174aecf0b83d5df",
            "453ce7202afa58094a04d2b1560ee2b02660f1c260b32ce6651c8ccedd1028ab",
            "0383bceaaa1096cf3c03ec021ed0048068e2355dbfc0239b292cefdac821cec5",
        ),
        entities=40_943,
        relations=11,
        triples=_counts(86_835, 3_034, 3_134),
    ),
    "codex-s": Source(
        files=_in_folder(f"{_CODEX}/codex-s"),
        entities=2_034,
        relations=42,
        triples=_counts(32_888, 1_827, 1_828),
    ),
    "codex-m": Source(
        files=_in_folder(f"{_CODEX}/codex-m"),
        entities=17_050,
        relations=51,
        triples=_counts(185_584, 10_310, 10_311),
    ),
    "codex-l": Source(
        files=_in_folder(f"{_CODEX}/codex-l"),
        entities=77_951,
        relations=69,
        triples=_counts(551_193, 30_622, 30_622),
    ),
    "yago3-10": Source(
        files=_in_folder(f"{_ROTATE}/YAGO3-10"),
        entities=123_182,
        relations=37,
        triples=_counts(1_079_040, 5_000, 5_000),
    ),
    "kinship": Source(
        files=_in_folder(f"{_PYKEEN}/kinships"),
        sha256=_by_split(
            "738612111a6acf0e39662bde24c7e72a4d1edf20931beea077da367dda689731",
            "c56f8630a583178b1e569f11a64aa535ae1ce0b0912d8b1e24716be2b37f04da",
            "05e5733265761d55be9c05bfaff5a8d0808df46f9c1e9d66cc3f2fe114e43d88",
        ),
        entities=104,
        relations=25,
        triples=_counts(8_544, 1_068, 1_074),
    ),
    "umls": Source(
        files=_in_folder(f"{_PYKEEN}/umls"),
        sha256=_by_split(
            "873ef4925516b83e7f6f8cc02b4be51d848828710a7f65a956f0ac4a9e452f35",
            "025c98f8a4891e2a6582ec5b40ee0d904031edad9c52554522f4b7904820c98e",
            "a7eb529a3d2810fcc96341ccc97c625a5e202f8389673aa6bd317eeebbb79014",
        ),
        entities=135,
        relations=46,
        triples=_counts(5_216, 652, 661),
    ),
    "nations": Source(
        files=_in_folder(f"{_PYKEEN}/nations"),
        sha256=_by_split(
            "0830fa9da8e5bba2ccdaa45b7bdc9130451ba66b09ff2708f35fccaf82473e57",
            "2b337a62e51a2f45c283eac98a70d21b7e0e102136be1539b2a52c652a7b0530",
            "3971085165b47b6aeaec68058c6d8d98b3005e929db81268410b95ae4db770ab",
        ),
        entities=14,
        relations=55,
        triples=_counts(1_592, 199, 201),
    ),
    "wikidata5m": Source(
        files={split: f"wikidata5m_transductive_{split}.txt" for split in SPLITS},
        archive=f"{_ZENODO}/wikidata5m_transductive.tar.gz",
        entities=4_594_485,
        relations=822,
        triples=_counts(20_614_279, 5_163, 5_133),
    ),
}
