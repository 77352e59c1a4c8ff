"""Memory, time and settings of a packing on a machine, to be known before the machine is rented.

This folder imports ``errors``, ``meshes``, ``pairwise`` and ``packing``, whose sweeps and methods it
models. Only ``runs`` and ``cli`` may import it.
"""

from hyperface_jax.planning.cost import Memory, StepCost, step_cost
from hyperface_jax.planning.machines import Machine, parse_devices
from hyperface_jax.planning.plans import PlannedRun, plan_run

__all__ = ["Machine", "Memory", "PlannedRun", "StepCost", "parse_devices", "plan_run", "step_cost"]
