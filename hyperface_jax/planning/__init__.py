"""What a packing costs on a machine, before the machine is rented: memory, time and settings.

Knows the sizes of the sweeps and methods that it prices; nothing but ``runs`` and ``cli`` imports it.
"""

from hyperface_jax.planning.cost import Memory, StepCost, step_cost
from hyperface_jax.planning.machines import Machine, parse_devices
from hyperface_jax.planning.plans import PlannedRun, plan_run

__all__ = ["Machine", "Memory", "PlannedRun", "StepCost", "parse_devices", "plan_run", "step_cost"]
