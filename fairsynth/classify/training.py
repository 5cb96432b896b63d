"""Train a classifier by one method and setting, choosing the epoch by validation figures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairsynth.classify import images as batches
from fairsynth.classify.batch_loss import Parts
from fairsynth.classify.checkpoint import Loop, Point, average_of, read_point, write_point
from fairsynth.classify.dfr import Labelled, Linear
from fairsynth.classify.epoch import Choice, Epoch, Judge, Rule, figures, finite, merit
from fairsynth.classify.images import Data, Images
from fairsynth.classify.losses import FeatureLoss, GroupDRO, feature_loss, group_dro, group_weights
from fairsynth.classify.methods import Phase, cannot_refit, numbers, phases, without_result
from fairsynth.classify.policies import Setting
from fairsynth.classify.refits import LINEAR, Refitter
from fairsynth.classify.special import special_loss
from fairsynth.config import ClassifyConfig
from fairsynth.errors import DataError, DivergedError, InfrastructureError
from fairsynth.models.classifier import Classifier, build_classifier
from fairsynth.models.data_parallel import Ranks, share_norms
from fairsynth.models.device import pick_device

_EVAL_BATCH = 256  # images per forward pass outside training


class Training:
    """One training run. Iterate over ``epochs``; ``model`` then holds the best selectable epoch.

    ``also``: other judges than the validation images of ``data``, by which the same training is chosen, and refitted,
    too: ``use`` says by which. It is what a training with these would have been, where no phase learns from validation.
    Between two epochs ``save`` keeps all that the rest depends on; a run that was restored from that file goes on
    as if it had never stopped, to the bit.
    """

    def __init__(
        self,
        method: str,
        setting: Setting,
        data: Data,
        config: ClassifyConfig,
        seed: int,
        rule: Rule = "worst-group",
        ranks: Ranks | None = None,
        also: Sequence[Judge] = (),
    ) -> None:
        self.method, self.setting, self.data, self.config, self.seed = method, setting, data, config, seed
        self.rule: Rule = rule
        self.ranks, self.device = ranks or Ranks(), pick_device()
        self.model = self._untrained(seed)
        self.rng = torch.Generator().manual_seed(seed + 1)
        self.phases, self.numbers = phases(method, setting, config), numbers(setting)
        its = tuple(phase.selectable for phase in self.phases)
        self.choices = [Choice(one.known, rule, one.selectable or its) for one in (Judge(data.validation), *also)]
        self.diverged = ""  # how, if it did
        self._loop: Loop | None = None
        self._restored: Point | None = None

    @property
    def history(self) -> list[Epoch]:
        """The epochs so far, with figures of the data's own validation images."""
        return self.choices[0].history

    @property
    def best(self) -> Epoch | None:
        """The best of them."""
        return self.choices[0].best

    @property
    def _ends(self) -> list[int]:
        """Numbers of epochs after which a phase ends."""
        return np.cumsum([phase.epochs for phase in self.phases]).tolist()  # type: ignore[no-any-return]

    def _untrained(self, seed: int) -> Classifier:
        model = build_classifier(self.config, self.data.n_labels, seed).to(self.device)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        share_norms(model.encoder, self.ranks)
        return model

    def epochs(self) -> Iterator[Epoch]:
        """Train; yields each epoch, first those of the restored state. At the end the best state is loaded.

        A training that diverges ends there: what it had reached before counts. Raises DivergedError if that is nothing.
        """
        yield from list(self.history)
        try:
            behind = len(self.history)
            for place, phase in enumerate(self.phases):
                if behind < phase.epochs:
                    yield from self._run(phase, place, behind)
                behind = max(0, behind - phase.epochs)
        except DivergedError as error:
            self.diverged = f"{error} in epoch {len(self.history) + 1}, at learning rate {phase.learning_rate:g}"
            if self.best is None:
                raise DivergedError(without_result(self.method, self.diverged)) from None
        self.use(0)

    def use(self, number: int) -> None:
        """Load the state that is best by the data's own validation images (0), or by others of ``also`` (1, …)."""
        self.model.load_state_dict(self.choices[number].state)
        self.model.eval()

    def _run(self, phase: Phase, place: int, behind: int) -> Iterator[Epoch]:
        choices = [choice for choice in self.choices if place < len(choice.selectable)]
        if phase.loss in LINEAR:
            self._refit(phase, place, choices)
            yield self.history[-1]
            return
        self._loop = self._entered(phase)
        for number in range(behind, phase.epochs):
            loss = self._epoch(self._loop)
            if self._loop.average and number == phase.epochs - 1:
                self.model.load_state_dict(self._loop.average.state)
            for choice in choices:
                known = choice.known
                self._note(choice, place, loss, figures(self._classes(known), known.labels, known.groups))
            yield self.history[-1]

    def _entered(self, phase: Phase) -> Loop:
        """Everything that a phase begins with; after a restore, as it was."""
        point, self._restored = self._restored, None
        images, errors = self._images(phase), None
        if phase.sampling == "errors":
            errors = point.errors() if point else self._wrong(images)
        if phase.anew and point is None:
            self.model = self._untrained(self.seed)
        special = special_loss(phase.loss, self._parts(images))
        networks = (self.model, *(special.networks if special else ()))
        trained = torch.nn.ModuleList(network.head if phase.head_only else network for network in networks)
        optimizer = torch.optim.AdamW(trained.parameters(), lr=phase.learning_rate, weight_decay=phase.weight_decay)
        dro = group_dro(images.groups, self.data.n_groups, self.numbers) if phase.loss == "group-dro" else None
        if point:
            point.put_back(optimizer, dro, special)
        features = self._features(images) if phase.head_only else None
        loss = self._loss(phase, images, dro)
        average = average_of(phase, self.model, point)
        return Loop(phase, images, networks, optimizer, loss, dro, errors, features, special, average)

    def _parts(self, images: Images) -> Parts:
        sizes, drawn = (self.data.n_labels, self.data.n_groups), (self.seed, self.rng)
        return Parts(self.model, images, *sizes, self.numbers, *drawn, self.ranks, self._seen, self._untrained)

    def _images(self, phase: Phase) -> Images:
        return batches.learnt(phase, self.data, self.seed)

    def _loss(self, phase: Phase, images: Images, dro: GroupDRO | None) -> FeatureLoss:
        weights = group_weights(images.groups, self.data.n_groups).to(self.device)
        return feature_loss(phase.loss, self.model.head, self.numbers, weights, dro)

    def _epoch(self, loop: Loop) -> float:
        """One epoch over a phase's images; returns its mean loss."""
        phase, images = loop.phase, loop.images
        # A frozen encoder gives the same features in every epoch.
        for network in loop.networks:
            network.train(not phase.head_only)
        losses = []
        times = int(self.numbers.get("up_weight", 1))
        orders = batches.orders(images, phase, self.rng, loop.errors, times)
        for index in (index for places in orders for index in batches.cut(places, self.config.batch_size)):
            with loop.as_seen(len(index), self.ranks, self.rng):
                loss = self._batch_loss(loop, index)
            loop.optimizer.zero_grad()
            loss.backward()
            for network in loop.networks:
                if loop.features is None:
                    self.ranks.sum_gradients(network.encoder.parameters())
                self.ranks.mean_gradients(network.head.parameters())
            loop.optimizer.step()
            if loop.average:
                loop.average.update(self.model.state_dict())
            losses.append(finite(loss.item(), "loss"))
        return float(np.mean(losses))

    def _batch_loss(self, loop: Loop, index: NDArray[np.int64]) -> Tensor:
        if loop.special:
            return loop.special(index)
        features = self._encoded(loop.images, index) if loop.features is None else loop.features[index]
        labels, groups = (torch.from_numpy(v[index]).to(self.device) for v in (loop.images.labels, loop.images.groups))
        return loop.loss(features, labels, groups)

    def _encoded(self, images: Images, index: NDArray[np.int64]) -> Tensor:
        """Features of a batch. Each process encodes its part; all see all of them, and so compute the same loss."""
        return self.ranks.joined(self.model.features(self._seen(images, index)), len(index))

    def _seen(self, images: Images, index: NDArray[np.int64]) -> Tensor:
        """This process's part of a batch, augmented as it would be without the others."""
        strong = self._loop is not None and self._loop.phase.strong
        return batches.seen(images, index, self.ranks.part, self.config, strong, self.rng, self.device)

    @torch.no_grad()
    def _features(self, images: Images) -> Tensor:
        self.model.eval()
        chunks = np.array_split(np.arange(len(images)), max(1, -(-len(images) // _EVAL_BATCH)))
        pixels = (batches.to_tensor(images.pixels[chunk[self.ranks.part]], self.device) for chunk in chunks)
        features = (self.model.features(batches.normalised(part)) for part in pixels)
        return torch.cat([self.ranks.joined(*part) for part in zip(features, map(len, chunks), strict=True)])

    @torch.no_grad()
    def probabilities(self, images: Images) -> NDArray[np.float32]:
        """Class probabilities, float32 (N, labels)."""
        return finite(self.model.head(self._features(images)).softmax(1).cpu().numpy(), "predictions")

    def _classes(self, images: Images) -> NDArray[np.int64]:
        return self.probabilities(images).argmax(1)  # type: ignore[no-any-return]

    def _wrong(self, images: Images) -> NDArray[np.bool_]:
        """Which images the classifier gets wrong."""
        return self._classes(images) != images.labels

    def _note(self, choice: Choice, place: int, loss: float, accuracies: tuple[float, float, float]) -> None:
        """Put an epoch of a phase on record, and the state with it if it is the best so far."""
        number, phase = len(choice.history), self.phases[place]
        may_be_chosen = choice.selectable[place] and (not phase.averaged or number + 1 in self._ends)
        epoch = Epoch(number, phase.stage, loss, *accuracies, may_be_chosen)
        # Of several processes the first decides, should their figures differ in a last bit.
        better = self.ranks.agreed(int(choice.is_better(epoch)))
        choice.note(epoch, self.model.state_dict() if better else None)

    def _refit(self, phase: Phase, place: int, choices: Sequence[Choice]) -> None:
        """A refitted linear layer; DFR's figures are of validation images that a layer like it has not seen."""
        train, refitter = self._labelled(self._images(phase)), self._refitter()
        for choice in choices:
            try:
                layer, held_out, predicted = refitter.refit(phase.loss, train, self._labelled(choice.known))
            except ValueError as error:
                choice.refused = str(error)
                continue
            with torch.no_grad():
                self.model.head.weight.copy_(torch.from_numpy(layer.weight_KD))
                self.model.head.bias.copy_(torch.from_numpy(layer.bias_K))
            accuracies = figures(predicted, held_out.labels_N, held_out.groups_N)
            self._note(choice, place, float(np.mean(predicted != held_out.labels_N)), accuracies)
        # Only now: each choice stands for a trial of its own.
        if refused := [choice.refused for choice in choices if choice.refused]:
            raise DataError(cannot_refit(self.method, refused[0]))

    def _refitter(self) -> Refitter:
        head = self.model.head
        weight, bias = (v.detach().cpu().double().numpy() for v in (head.weight, head.bias))  # copies

        def worth(predicted: NDArray[np.int64], of: Labelled) -> tuple[float, float]:
            return merit(self.rule, *figures(predicted, of.labels_N, of.groups_N))

        erm, looks = Linear(weight, bias), self.config.finetune_epochs
        return Refitter(erm, self.numbers, self.data.n_labels, self.seed, looks, worth)

    def _labelled(self, images: Images) -> Labelled:
        return Labelled(finite(self._features(images).cpu().numpy(), "features"), images.labels, images.groups)

    def save(self, path: Path) -> None:
        """Write the state between two epochs; of several processes the first does it."""
        loop = self._loop
        # After a restore, and before another epoch, the file holds this state already.
        if not self.ranks.first or self._restored is not None:
            return
        write_point(path, self._identity(), self.model, self.choices, self.rng, loop)

    def restore(self, path: Path) -> bool:
        """Go on from a state that ``save`` wrote for the same run; False if there is none."""
        point = read_point(path, self._identity())
        length = len(point.facts["history"]) if point else 0
        if self.ranks.agreed(length) != length:
            # On a shared disk the file may be visible late; the process is started again then.
            way = "their nodes need one output folder, which 'fairsynth doctor' checks"
            raise InfrastructureError(f"the checkpoint {path} is not the same for all that train together; {way}")
        if point is None:
            return False
        point.put_back_choices(self.choices)
        self.model.load_state_dict(point.part("model"))
        self.rng.set_state(point.tensors["rng"])
        inside = len(self.history) not in self._ends
        self._restored = point if inside else None
        return True

    def _identity(self) -> dict[str, Any]:
        same = {"method": self.method, "setting": dict(self.setting), "seed": self.seed, "rule": self.rule}
        several = {"choices": [list(one.selectable) for one in self.choices]} if len(self.choices) > 1 else {}
        return {**same, "classify": self.config.model_dump(mode="json"), **several}


def saved_epochs(run: Training, path: Path, seconds: float) -> Iterator[Epoch]:
    """The epochs of a run that resumes from the state in a file, if it exists, and writes it at intervals."""
    run.restore(path)
    behind, last = len(run.history), time.monotonic()
    for count, epoch in enumerate(run.epochs(), start=1):
        yield epoch
        if count > behind and time.monotonic() - last >= seconds:
            run.save(path)
            last = time.monotonic()
