"""Run a linen module and record what its submodules return."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import flax
import flax.linen as nn

from aff_jax.parity.recording.inputs import list_runs
from aff_jax.parity.recording.recorder import Call, Inputs, Recorder, record

__all__ = ["record_linen"]


def record_linen(
    module: nn.Module,
    variables: Mapping[str, Any],
    inputs: Inputs,
    inputs_of: Collection[str] = (),
    perturbed: Sequence[bool] = (False,),
) -> list[list[Call]]:
    """Run a linen module and record the outputs of all submodules.

    Args:
        module: The module.
        variables: Its variables.
        inputs: Its inputs.
        inputs_of: Paths of the submodules whose inputs are recorded too.
        perturbed: For each run, whether the variables and inputs are changed by one unit in the
            last place.

    Returns:
        For each run, the calls in the order in which they end. The last is the call of `module`.

    Raises:
        ValueError: If the module runs in training mode.
    """
    recorder = Recorder(inputs_of)

    def note(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = call(*args, **kwargs)
        if context.method_name == "__call__":
            recorder.note("/".join(context.module.path), output, (args, kwargs))
        return output

    def program(variables: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        with nn.intercept_methods(note):
            module.apply(variables, *args, **kwargs)

    try:
        return record(program, list_runs(variables, inputs, perturbed), recorder)
    except (flax.errors.ModifyScopeVariableError, flax.errors.InvalidRngError) as error:
        raise ValueError(
            f"{error}\nexpected a module that runs in evaluation mode, got one that updates "
            f"statistics or draws random numbers. Probably its default is training: pass its flag, "
            f"such as kwargs={{'train': False}} or kwargs={{'deterministic': True}}."
        ) from error
