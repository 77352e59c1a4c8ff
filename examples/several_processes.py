"""Run one packing on two processes with two CPU devices each, joined by ``jax.distributed``.

On a cluster, a launcher starts the processes and numbers them; here, the script starts them itself.
"""

import os
import socket
import subprocess
import sys

import jax

import hyperface_jax as hf

PROCESSES, DEVICES = 2, 2


def work() -> None:
    """Join the job, and solve one problem on the devices of all processes."""
    hf.processes.initialize()
    mesh = hf.meshes.make_mesh()
    problem = hf.PackingProblem(num_points=400, dim=16)
    packing = hf.solve(problem, jax.random.key(0), num_steps=100, mesh=mesh)
    if hf.processes.is_first_process():
        where = f"{jax.process_count()} processes, {mesh.size} devices"
        print(f"{where}: max cosine {packing.max_cosine:.4f}", flush=True)


def launch() -> None:
    """Start the processes, and wait for them."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    jobs = []
    for number in range(PROCESSES):
        job = {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(DEVICES),
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_NUM_PROCESSES": str(PROCESSES),
            "JAX_PROCESS_ID": str(number),
        }
        command = [sys.executable, __file__]
        jobs.append(subprocess.Popen(command, env=os.environ | job, stdout=subprocess.PIPE))
    outputs = [job.communicate()[0].decode() for job in jobs]
    print(*(line for text in outputs for line in text.splitlines() if "[Gloo]" not in line))
    if any(job.returncode for job in jobs):
        raise SystemExit("a process failed")


if __name__ == "__main__":
    work() if "JAX_PROCESS_ID" in os.environ else launch()
