"""The only training loop: it moves the weights of whatever an objective says, and knows nothing of what it trains.

A run is a folder: ``last.pt`` (to go on), ``best.pt`` (by validation), ``curves/`` (TensorBoard) and ``history.json``.
A resumed run equals an uninterrupted one, to the bit on one CPU: all draws of a step depend on (seed, rank, step).
"""

from __future__ import annotations

import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from ssns.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ssns.errors import Stopped, UserError
from ssns.files import write_json
from ssns.training.fabric import make_fabric
from ssns.training.settings import TrainingSettings

SCORE = "voi_sum"
"""What the best checkpoint is chosen by, unless the caller says otherwise; lower is better."""


class Objective(Protocol):
    """What is trained: terms of a loss, computed on batches drawn by step."""

    network: nn.Module
    """What the optimiser moves; the loop replaces it by one that knows devices and precision."""

    @property
    def judged(self) -> nn.Module:
        """What is validated, saved as the weights and predicts in the end; a part of ``network``, or follows it."""
        ...

    def draw(self, micro_step: int) -> Any:
        """The batch of one forward pass, on the CPU; called ahead of time, from another thread."""
        ...

    def loss(self, batch: Any, step: int) -> Mapping[str, Tensor]:
        """Named terms, whose sum is minimised."""
        ...

    def after_update(self, step: int) -> None:
        """Called after each optimiser step (moves a teacher, where there is one)."""
        ...

    def describe(self, batch: Any) -> str:
        """Where a batch was drawn, for messages."""
        ...

    def preview(self) -> NDArray[Any] | None:
        """A picture (height, width, 3) uint8 of the latest batch, if there is one."""
        ...


Validate = Callable[[nn.Module, int], Mapping[str, float]]
"""``validate(network, step) -> scores``, which holds the score that the best checkpoint is chosen by; infinite for what
cannot be scored."""


OnStep = Callable[[int, int, str], None]
"""``on_step(step, steps, note)``."""


class TrainingInterrupted(Stopped):
    """Training was asked to stop and has saved its state."""

    def __init__(self, step: int, steps: int, path: Path) -> None:
        super().__init__(f"stopped at step {step} of {steps}, saved in {path}: the same command goes on from there")


@dataclass
class _Progress:
    """What changes while a run goes on, and is saved with it."""

    step: int = 0
    seconds: float = 0.0
    validation_seconds: float = 0.0
    validations: int = 0
    best: float = math.inf
    judged_by: str = ""
    processes: int = 1
    scores: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


def train(
    objective: Objective,
    checkpoint: Checkpoint,
    settings: TrainingSettings,
    folder: Path,
    *,
    validate: Validate | None = None,
    score: str = SCORE,
    judged_by: str = "",
    rates: Mapping[nn.Parameter, float] | None = None,
    fabric: Fabric | None = None,
    on_start: Callable[[str], None] | None = None,
    on_step: OnStep | None = None,
) -> Checkpoint:
    """Train until ``settings.steps``, from the last save in ``folder`` if there is one.

    Args:
        objective: What is trained.
        checkpoint: What is saved beside the weights: settings of the network, offsets, normalisation.
        settings: Of the loop.
        folder: Of the run.
        validate: Scores a network; without it the last checkpoint is the best. Only the first process is asked.
        score: The score that the best checkpoint is chosen by; lower is better.
        judged_by: What tells one way of scoring from another: a training that goes on with another one does not compare
            with its best checkpoint so far.
        rates: Share of the learning rate of single parameters, where it is not 1.
        fabric: Devices and precision; made from ``settings`` if not given.
        on_start: Told in one line where training begins and on what.
        on_step: Told after each step how far it is, with the loss and the last scores in words.

    Returns:
        The best checkpoint.

    Raises:
        TrainingInterrupted: SIGTERM, SIGUSR1 or an interrupt from the keyboard came; the state is saved.
        UserError: The loss is not finite.
    """
    fabric = fabric or make_fabric(settings)
    run = _Run(objective, checkpoint, settings, folder, validate, score, judged_by, rates or {}, fabric)
    run.resume()
    if on_start:
        parameters = sum(parameter.numel() for parameter in objective.network.parameters())
        on_start(
            f"{'going on from' if run.progress.step else 'training from'} step {run.progress.step} of {settings.steps}"
            f" on {run.fabric.device} ({run.precision}), {parameters:,} parameters{run.together()}"
        )
    with (
        warnings.catch_warnings(),
        closing(run.writer) if run.writer else nullcontext(),
        _threads(settings.threads),
        _stop_requests() as stop,
        run.batches() as next_batch,
    ):
        # Layouts of memory differ between gradients and buckets where channels are last, which costs next to nothing.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        while run.progress.step < settings.steps:
            loss = run.step(next_batch)
            if on_step and run.fabric.is_global_zero:
                best = f", {shown_score(score)} {run.progress.scores[score]:.3f}" if run.progress.scores else ""
                on_step(run.progress.step, settings.steps, f"loss {loss:.4f}{best}")
            if run.agreed(stop.is_set()):
                run.save("last.pt")
                raise TrainingInterrupted(run.progress.step, settings.steps, folder / "last.pt")
    return load_checkpoint(folder / "best.pt")


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """As many threads of torch, while this lasts; None: as many as there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Run:
    """One training run: the network, its optimiser and its folder."""

    def __init__(
        self,
        objective: Objective,
        checkpoint: Checkpoint,
        settings: TrainingSettings,
        folder: Path,
        validate: Validate | None,
        score: str,
        judged_by: str,
        rates: Mapping[nn.Parameter, float],
        fabric: Fabric,
    ) -> None:
        self.objective = objective
        self.checkpoint = checkpoint
        self.settings = settings
        self.folder = folder
        self.validate = validate
        self.score = score
        self.fabric = fabric
        self.precision = str(fabric._precision.precision)
        self.progress = _Progress(judged_by=judged_by, processes=fabric.world_size)
        self.network = objective.network
        self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.network.to(fabric.device)
        objective.judged.to(device=fabric.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        optimizer = settings.optimizer.build(_groups(self.network, rates))
        objective.network, self.optimizer = fabric.setup(self.network, optimizer)
        folder.mkdir(parents=True, exist_ok=True)
        self.writer: SummaryWriter | None = None

    def resume(self) -> None:
        """Take up the state of ``last.pt``, if there is one, and begin with curves there."""
        self._take_up()
        if self.fabric.is_global_zero:
            # what a killed run drew after that save is drawn again
            self.writer = SummaryWriter(str(self.folder / "curves"), purge_step=self.progress.step + 1)

    def _take_up(self) -> None:
        path = self.folder / "last.pt"
        if not path.is_file():
            return
        saved = load_checkpoint(path)
        self.network.load_state_dict(dict(saved.state.get("network", saved.weights)))
        self.objective.judged.load_state_dict(dict(saved.weights))
        self.optimizer.load_state_dict(dict(saved.state["optimizer"]))
        self.fabric._precision.load_state_dict(dict(saved.state["precision"]))
        judged_by = self.progress.judged_by
        self.progress = _Progress(**{"judged_by": judged_by, **saved.state["progress"]})
        if self.progress.judged_by != judged_by:
            self.progress.judged_by, self.progress.best, self.progress.scores = judged_by, math.inf, {}

    def together(self) -> str:
        """How many processes there are, for the user, where there are several or were others."""
        now, before = self.fabric.world_size, self.progress.processes
        if now == before == 1:
            return ""
        changed = f" ({before} until now: a step has {now / before:g} times as many patches)" if now != before else ""
        return f", {now} {'process' if now == 1 else 'processes'}{changed}"

    def save(self, name: str) -> None:
        """Write everything to ``name`` in the folder, on the first process."""
        if not self.fabric.is_global_zero:
            return
        state = {
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric._precision.state_dict(),
            "progress": vars(self.progress)
            | {"history": list(self.progress.history), "processes": self.fabric.world_size},
        }
        judged = self.objective.judged
        if judged is not self.objective.network:
            state["network"] = self.network.state_dict()
        save_checkpoint(
            self.folder / name,
            replace(
                self.checkpoint,
                weights=judged.state_dict(),
                step=self.progress.step,
                scores=self.progress.scores,
                state=state,
            ),
        )
        write_json(self.folder / "history.json", self.progress.history)
        if self.writer is not None:
            self.writer.flush()

    @contextmanager
    def batches(self) -> Iterator[Callable[[], Any]]:
        """A function that gives the next batch, drawn in another thread while the network works."""
        draw = self.objective.draw
        with ThreadPoolExecutor(1, thread_name_prefix="patches") as pool:
            next_draw = self.progress.step * self.settings.accumulate
            waiting = [pool.submit(draw, next_draw + ahead) for ahead in range(2)]

            def following() -> Any:
                nonlocal next_draw
                waiting.append(pool.submit(draw, next_draw + 2))
                next_draw += 1
                return waiting.pop(0).result()

            try:
                yield following
            finally:
                for future in waiting:
                    future.cancel()

    def step(self, next_batch: Callable[[], Any]) -> float:
        """One optimiser step, then what is due after it; returns the loss."""
        begin = time.monotonic()
        settings, progress = self.settings, self.progress
        rate = settings.optimizer.lr * settings.schedule.factor(progress.step, settings.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        self.network.train()
        self.optimizer.zero_grad()
        values: dict[str, float] = {}
        try:
            for _ in range(settings.accumulate):
                self._add_gradients(next_batch(), values)
            self._clip()
            self.optimizer.step()
            self.objective.after_update(progress.step)
        except torch.OutOfMemoryError as error:
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"training: {self.fabric.device} has not enough memory ({reason}): lower training.batch, and raise"
                " training.accumulate as much; or take a smaller training.patch"
            ) from error
        progress.step += 1
        progress.seconds += time.monotonic() - begin
        self._after(values, rate)
        return sum(values.values())

    def _add_gradients(self, batch: Any, values: dict[str, float]) -> None:
        """Those of one forward pass; its terms are added to ``values``."""
        count = self.settings.accumulate
        terms = self.objective.loss(batch, self.progress.step)
        for name, term in terms.items():
            values[name] = values.get(name, 0.0) + float(term.detach()) / count
        if not all(math.isfinite(value) for value in values.values()):
            self._not_finite(values, self.objective.describe(batch))
        self.fabric.backward(sum(terms.values(), torch.zeros((), device=self.fabric.device)) / count)

    def _clip(self) -> None:
        """Shorten gradients, if so asked. Of fp16 they overflow now and then: such a step is left out."""
        if self.settings.clip is None:
            return
        norm = self.fabric.clip_gradients(
            self.network, self.optimizer, max_norm=self.settings.clip, error_if_nonfinite=False
        )
        if not (self.precision == "16-mixed" or math.isfinite(float(cast("Tensor", norm)))):
            raise UserError(
                f"training: gradients are not finite at step {self.progress.step}: lower training.optimizer.lr, or"
                f" train in fp32. The state of the last save is in {self.folder / 'last.pt'}"
            )

    def _not_finite(self, values: Mapping[str, float], batch: str) -> None:
        shown = ", ".join(f"{name} = {value}" for name, value in values.items())
        raise UserError(
            f"training: the loss is not finite at step {self.progress.step} ({shown}), on the batch {batch}."
            " Look at raw there for NaN; or lower training.optimizer.lr, set training.clip, or train in fp32."
            f" The state of the last save is in {self.folder / 'last.pt'}"
        )

    def _after(self, values: Mapping[str, float], rate: float) -> None:
        """Log, show, validate and save, each when its time has come."""
        settings, progress = self.settings, self.progress
        end = progress.step == settings.steps
        if progress.step % settings.log_every == 0 or end:
            self._log({f"loss/{name}": value for name, value in values.items()} | {"lr": rate})
        if progress.step % settings.preview_every == 0 or end:
            picture = self.objective.preview()
            if picture is not None and self.writer is not None:
                self.writer.add_image("preview", picture, progress.step, dataformats="HWC")
        validated = self.validate is not None and self.agreed(end or self._validation_is_due())
        if self.validate is not None and validated:
            self._validate(self.validate)
        if self.validate is None and end:
            self.save("best.pt")
        # Also after a validation: a run killed and resumed must know the best score that best.pt has.
        if progress.step % settings.save_every == 0 or validated or end:
            self.save("last.pt")

    def _validation_is_due(self) -> bool:
        """Whether its turn has come, and its share of the time allows it."""
        progress = self.progress
        if progress.step % self.settings.validate_every:
            return False
        if not progress.validations:
            return True
        once = progress.validation_seconds / progress.validations
        total = progress.seconds + progress.validation_seconds
        return progress.validation_seconds + once <= self.settings.validation_share * (total + once)

    def agreed(self, wish: bool) -> bool:
        """What the first process wishes, for all: they measure time, and get signals, each by itself."""
        return bool(self.fabric.broadcast(wish)) if self.fabric.world_size > 1 else wish

    def _validate(self, validate: Validate) -> None:
        begin = time.monotonic()
        judged = self.objective.judged
        judged.eval()
        # The bare network: that of several processes would wait for the others, which do not validate.
        bare = judged.module if isinstance(judged, _FabricModule) else judged
        scores: dict[str, float] = {}
        if self.fabric.is_global_zero:
            with self.fabric.autocast():
                found = validate(bare, self.progress.step)
            # Plain floats: a checkpoint holds no NumPy scalars, and is read without running code.
            scores = {name: float(value) for name, value in found.items()}
        scores = self.fabric.broadcast(scores) if self.fabric.world_size > 1 else scores
        self.progress.scores = scores
        self.progress.validation_seconds += time.monotonic() - begin
        self.progress.validations += 1
        self._log({f"validation/{name}": value for name, value in scores.items()})
        # Until one has a finite score the latest is the best: there is one at the end in any case.
        if scores[self.score] < self.progress.best or math.isinf(self.progress.best):
            self.progress.best = scores[self.score]
            self.save("best.pt")

    def _log(self, values: Mapping[str, float]) -> None:
        """Add to the curves and the history; JSON knows no infinity, so the history leaves such scores out."""
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(name, value, self.progress.step)
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self.progress.history.append({"step": self.progress.step, "seconds": round(self.progress.seconds, 3), **finite})


def shown_score(name: str) -> str:
    """A score's name for the user."""
    return "VOI" if name == SCORE else name.replace("_", " ")


def _groups(network: nn.Module, rates: Mapping[nn.Parameter, float]) -> list[dict[str, Any]]:
    """Parameters that are not frozen, grouped by their share of the learning rate."""
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            groups.setdefault(rates.get(parameter, 1.0), []).append(parameter)
    return [{"params": parameters, "share": share} for share, parameters in groups.items()]


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """An event that SIGTERM, SIGUSR1 and Ctrl-C set instead of ending the process."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    names = [name for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), request) for name in names}
    try:
        yield stop
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
