"""Train each method's best setting from several seeds, and predict the test split."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fairsynth.artifacts import Units
from fairsynth.classify.epoch import Rule
from fairsynth.classify.packs import load_data, load_pack, pack_name
from fairsynth.classify.policies import Setting
from fairsynth.classify.training import Training, saved_epochs
from fairsynth.config import ClassifyConfig
from fairsynth.manifest import TEST, seed_for
from fairsynth.models.data_parallel import Ranks
from fairsynth.run_folder.files import remove
from fairsynth.stages.evaluate.output import CLASSIFIERS, training_of
from fairsynth.store.mirror import tree_sent


class EvaluateUnit:
    """Trains one (method, seed) and predicts the test split.

    ``__call__`` returns the tables ``predictions`` (method, seed, split, image_id, label, attribute, true_attribute:
    empty unless attributes are discovered, predicted, probabilities), ``epochs`` and ``cost`` (seconds). No method uses
    the test split before this.
    """

    def __init__(
        self,
        packs: Path,
        settings: Mapping[str, Setting],
        tests: Sequence[Mapping[str, str]],
        labels: Sequence[str],
        classify: ClassifyConfig,
        rule: Rule,
        seed: int,
        folder: Path,
        checkpoint_seconds: float = 30.0,
    ) -> None:
        self.packs, self.settings, self.tests = packs, settings, tests
        self.labels, self.classify, self.rule, self.seed = list(labels), classify, rule, seed
        self.folder, self.checkpoint_seconds = folder, checkpoint_seconds

    def __call__(self, task: Mapping[str, Any], ranks: Ranks | None = None) -> dict[str, pa.Table]:
        """The unit's tables; of several processes (``ranks``) the first also writes the classifier."""
        from fairsynth.models.classifier import save_classifier

        began = time.monotonic()
        method, index = training_of(str(task["name"]))
        run = Training(
            method,
            self.settings[method],
            load_data(self.packs, method),
            self.classify,
            seed_for(self.seed, "final", index) % 2**31,
            self.rule,
            ranks,
        )
        checkpoint = self.folder / "checkpoints" / f"{task['name']}.safetensors"
        epochs = list(saved_epochs(run, checkpoint, self.checkpoint_seconds))
        probabilities = run.probabilities(load_pack(Units(self.folder / "units").large(pack_name(TEST))))
        if run.ranks.first:
            classifier = self.folder / CLASSIFIERS / task["name"]
            private = classifier.with_name(f".{classifier.name}.{uuid.uuid4().hex}")
            save_classifier(run.model, private)
            remove(classifier)
            private.rename(classifier)
            tree_sent(classifier)
        n = len(self.tests)
        predicted = [self.labels[i] for i in probabilities.argmax(1)]
        log = pa.Table.from_pylist([vars(epoch) for epoch in epochs])
        return {
            "epochs": log,
            "cost": pa.table({"seconds": [round((time.monotonic() - began) * run.ranks.world, 2)]}),
            "predictions": pa.table(
                {
                    "method": [method] * n,
                    "seed": pa.array([index] * n, pa.int64()),
                    "split": ["test"] * n,
                    "image_id": [t["image_id"] for t in self.tests],
                    "label": [t["label"] for t in self.tests],
                    "attribute": [t["attribute"] for t in self.tests],
                    "true_attribute": [t["true_attribute"] for t in self.tests],
                    "predicted": predicted,
                    "probabilities": pa.array(probabilities.tolist(), pa.list_(pa.float32())),
                }
            ),
        }
