"""The optimizer and the learning rate, a pure function of the step."""

import inspect
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ran.registry import Registry

Schedule = Callable[[int, int], float]
"""(step, steps) -> factor on the peak learning rate, for the update that follows step 0..steps-1"""
SCHEDULES: Registry[Schedule] = Registry("schedule")


@SCHEDULES.register("step")
def step_decay(step: int, steps: int) -> float:
    """/10 at 2/5 and 3/5 of the steps: 64k and 96k of the paper's 160k (section 4.1)."""
    return 0.1 ** ((5 * step >= 2 * steps) + (5 * step >= 3 * steps))


@SCHEDULES.register("step_imagenet")
def step_decay_imagenet(step: int, steps: int) -> float:
    """/10 at 20/53, 40/53 and 50/53 of the steps: 200k, 400k and 500k of the paper's 530k (section 4.2)."""
    return 0.1 ** sum(53 * step >= part * steps for part in (20, 40, 50))


@SCHEDULES.register("one_cycle")
def one_cycle(step: int, steps: int) -> float:
    """Linear from near 0 to 1 over the first quarter, then linear to near 0: suits few steps."""
    position = (step + 0.5) / steps
    return position / 0.25 if position < 0.25 else (1 - position) / 0.75


@SCHEDULES.register("cosine")
def cosine(step: int, steps: int) -> float:
    """Half a cosine from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


@SCHEDULES.register("constant")
def constant(step: int, steps: int) -> float:
    """1 throughout."""
    return 1.0


class EagerSGD(torch.optim.SGD):
    """torch.optim.SGD that is never compiled, and so computes the same without torch's compiler.

    The decorators of the replaced methods import the compiler, which takes two seconds, to exclude the methods from
    compilation. Only the network is compiled here (train.compile).
    """

    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    load_state_dict = inspect.unwrap(torch.optim.SGD.load_state_dict)
    state_dict = inspect.unwrap(torch.optim.SGD.state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)


def sgd(
    parameters: Iterable[nn.Parameter], *, lr: float | Tensor, momentum: float, weight_decay: float
) -> torch.optim.SGD:
    """Returns SGD with Nesterov momentum; weight decay applies to every parameter, as the authors advise for BN."""
    return EagerSGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=momentum > 0, fused=True)
