"""The optimiser Muon, for the kernels of convolutions.

torch's own takes matrices alone, and it and those of other libraries orthogonalise in bf16, which processors without it
do slowly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the iteration: singular values go to about 1 in `ITERATIONS` steps, though not exactly."""

ITERATIONS = 5

LIKE_ADAM = 0.2
"""Root mean square of a step at learning rate 1, about that of Adam's, so that both learn at the same rates."""


class Muon(Optimizer):
    """Momentum whose matrix is made orthogonal; biases and the like move as with AdamW.

    Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon), with the step size and the decay of Liu et al. 2025
    (arXiv 2502.16982). A kernel (out, in, z, y, x) counts as the matrix (out, in * z * y * x).

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        momentum: Decay of the running gradient of matrices.
        betas: Decay of the running moments of all else.
        eps: Added to the root of the second moment.
        weight_decay: Share of a weight that a step at learning rate 1 removes.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move the parameters by their gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    move = self._matrix if parameter.ndim > 1 else self._vector
                    parameter.sub_(move(parameter, parameter.grad, group), alpha=group["lr"])
        return loss

    def _matrix(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        running: Tensor = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        ahead = gradient.lerp(running, group["momentum"])  # Nesterov's
        matrix = orthogonal(ahead.reshape(len(ahead), -1))
        return LIKE_ADAM * math.sqrt(max(matrix.shape)) * matrix.reshape(parameter.shape)

    def _vector(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        if not state:
            state |= {"steps": 0, "mean": torch.zeros_like(parameter), "square": torch.zeros_like(parameter)}
        state["steps"] += 1
        first, second = group["betas"]
        mean: Tensor = state["mean"].lerp_(gradient, 1 - first)
        square: Tensor = state["square"].lerp_(gradient.square(), 1 - second)
        scale: Tensor = (square / (1 - second ** state["steps"])).sqrt() + group["eps"]
        return mean.div(scale).div(1 - first ** state["steps"])


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest matrix whose rows or columns are orthonormal, by Newton and Schulz; singular values 0.7 to 1.2.

    Args:
        matrix: (rows, columns), float32.
    """
    one, three, five = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(one * x, torch.addmm(gram, gram, gram, beta=three, alpha=five), x)
    return x.T if tall else x
