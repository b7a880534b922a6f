"""Finished arms as models of MLflow: logged on the arm's run, registered as STUDY.ARM, the newest as `best`.

What is logged needs no data set and no study: the parameters, the graph and its names (kge.bundle), and the name
of the module that loads them (study.tracking.answers). A tag of the run says which model was sent; it is written
last, and what was begun before is found by its key, so a sync that broke anywhere goes on there.
"""

import shutil
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from kge.bundle import write_bundle
from kge.catalog import labels_of, load
from study.tracking import answers
from study.tracking.finalists import Finalist
from study.tracking.projection import DesiredRun

with warnings.catch_warnings(action="ignore"):  # of type hints of its own
    import mlflow.pyfunc

ALIAS = "best"
LARGEST = 2**30  # bytes of a checkpoint: to send one takes three times as much memory
_KEY = "kge.key"
_SENT = "kge.model"
_SHOWN = ("study", "arm", "dataset", "model", "loss", "training_type", "objective", "selection_sha256")
SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(DataType.string, "head"),
            ColSpec(DataType.string, "relation"),
            ColSpec(DataType.string, "tail", required=False),
        ]
    ),
    outputs=Schema(
        [
            ColSpec(DataType.string, "head"),
            ColSpec(DataType.string, "relation"),
            ColSpec(DataType.string, "tail"),
            ColSpec(DataType.long, "rank"),
            ColSpec(DataType.string, "entity"),
            ColSpec(DataType.string, "label", required=False),
            ColSpec(DataType.double, "score"),
            ColSpec(DataType.boolean, "known"),
        ]
    ),
    params=ParamSchema([ParamSpec("top", DataType.long, 10), ParamSpec("new_only", DataType.boolean, False)]),
)


class ModelSender:
    """Sends the model of one arm's run."""

    def __init__(self, client: MlflowClient, experiment: str, run: DesiredRun, run_id: str, finalist: Finalist) -> None:
        self._client = client
        self._experiment = experiment
        self._run_id = run_id
        self._finalist = finalist
        shown = {name: run.tags[name] for name in _SHOWN if name in run.tags}
        self._tags = shown | {"source": finalist.source, "valid_mrr": str(finalist.valid_mrr), _KEY: finalist.key}

    def send(self, folder: Path) -> bool:
        """Log and register the checkpoint in the study's folder; False when there is none, or it is too large."""
        checkpoint = self._finalist.checkpoint
        if not (folder / checkpoint).is_file():
            return False
        size = (folder / checkpoint).stat().st_size
        if size > LARGEST:
            self._tag(f"none: {checkpoint} has {size / 2**30:.1f} GiB, more than {LARGEST / 2**30:g}")
            return False
        registered = self._version(self._logged() or self._log(folder))
        self._client.set_registered_model_alias(self._finalist.name, ALIAS, registered.version)
        self._tag(f"models:/{self._finalist.name}/{registered.version}")
        return True

    def _tag(self, registered: str) -> None:
        self._client.set_tag(self._run_id, "registered", registered)
        self._client.set_tag(self._run_id, _SENT, self._finalist.key)

    def _logged(self) -> LoggedModel | None:
        """What an earlier sync has logged; what it left unfinished is deleted."""
        whole = None
        for each in self._client.search_logged_models([self._experiment], f"tags.`{_KEY}` = '{self._finalist.key}'"):
            if each.status == LoggedModelStatus.READY:
                whole = each
            else:
                self._client.delete_logged_model(each.model_id)
        return whole

    def _log(self, folder: Path) -> LoggedModel:
        model = self._client.create_logged_model(
            self._experiment, name="answers", source_run_id=self._run_id, tags=self._tags, model_type="link prediction"
        )
        made = folder / ".model"
        shutil.rmtree(made, ignore_errors=True)  # of a sync that was killed
        try:
            self._make(made, folder / self._finalist.checkpoint, model)
            self._client.log_model_artifacts(model.model_id, str(made / "mlflow"))
        finally:
            shutil.rmtree(made, ignore_errors=True)
        self._client.log_outputs(self._run_id, [LoggedModelOutput(model.model_id, step=0)])
        return self._client.finalize_logged_model(model.model_id, "READY")

    def _make(self, folder: Path, checkpoint: Path, model: LoggedModel) -> None:
        """Write the files of the model. Requirements are named: left to itself MLflow would load it to find them."""
        dataset = self._finalist.dataset
        write_bundle(checkpoint, load(dataset), labels_of(dataset), folder / "bundle")
        with warnings.catch_warnings(action="ignore"):  # it wants an example, to make a signature of
            mlflow.pyfunc.save_model(
                str(folder / "mlflow"),
                loader_module=answers.__name__,
                data_path=str(folder / "bundle"),
                mlflow_model=Model(model_uuid=model.model_id, run_id=self._run_id, model_id=model.model_id),
                signature=SIGNATURE,
                pip_requirements=[_requirement()],
            )

    def _version(self, model: LoggedModel) -> ModelVersion:
        """The registered version of a logged model."""
        try:
            self._client.create_registered_model(self._finalist.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        for each in self._client.search_model_versions(f"name = '{self._finalist.name}'"):
            if each.tags.get(_KEY) == self._finalist.key:
                return each
        return self._client.create_model_version(
            self._finalist.name, model.artifact_location, self._run_id, tags=self._tags, model_id=model.model_id
        )


def is_sent(finalist: Finalist, tags: dict[str, str]) -> bool:
    """By the tags of the arm's run."""
    return tags.get(_SENT) == finalist.key


def _requirement() -> str:
    """This package, which brings all others."""
    try:
        return f"kge-study=={version('kge-study')}"
    except PackageNotFoundError:
        return "kge-study"
