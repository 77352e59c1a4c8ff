"""What the environment says about the processes of a job."""

import pytest

from hyperface_jax import processes

PLAIN = {
    "JAX_COORDINATOR_ADDRESS": "a:1",
    "JAX_NUM_PROCESSES": "4",
    "JAX_PROCESS_ID": "3",
}
TORCHRUN = {"MASTER_ADDR": "b", "MASTER_PORT": "29400", "WORLD_SIZE": "8", "RANK": "5"}


@pytest.mark.parametrize(
    ("environment", "settings"),
    [
        ({}, None),
        (PLAIN, {"coordinator_address": "a:1", "num_processes": 4, "process_id": 3}),
        (PLAIN | {"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}, None),
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, None),
        (TORCHRUN, {"coordinator_address": "b:29401", "num_processes": 8, "process_id": 5}),
        (
            TORCHRUN | {"LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "1"},
            {
                "coordinator_address": "b:29401",
                "num_processes": 8,
                "process_id": 5,
                "local_device_ids": [1],
            },
        ),
        ({"WORLD_SIZE": "1", "RANK": "0"}, None),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}, {}),
        ({"SLURM_NTASKS": "4"}, None),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, {}),
        ({"TPU_WORKER_HOSTNAMES": "t0,t1"}, {}),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
    ],
)
def test_the_environment_tells_of_other_processes(environment, settings):
    assert processes.process_settings(environment) == settings


LOCAL = TORCHRUN | {"LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "1"}


@pytest.mark.parametrize(
    ("environment", "devices"),
    [
        (LOCAL | {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, [1]),
        (LOCAL | {"CUDA_VISIBLE_DEVICES": "1"}, [0]),
        (LOCAL | {"CUDA_VISIBLE_DEVICES": "GPU-8932f937"}, [0]),
        (LOCAL | {"CUDA_VISIBLE_DEVICES": "2,3"}, [0, 1]),
        (LOCAL | {"CUDA_VISIBLE_DEVICES": "3,-1,0,1,2"}, [0]),
        (LOCAL | {"CUDA_VISIBLE_DEVICES": ""}, []),
        (LOCAL | {"ROCR_VISIBLE_DEVICES": "1"}, [0]),
        ({"SLURM_STEP_NUM_TASKS": "4", "CUDA_VISIBLE_DEVICES": "2"}, [0]),
        ({"OMPI_COMM_WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": "1"}, [0]),
        ({"SLURM_STEP_NUM_TASKS": "4", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}, None),
        ({"TPU_WORKER_HOSTNAMES": "t0,t1", "CUDA_VISIBLE_DEVICES": "0"}, None),
    ],
)
def test_a_process_takes_devices_that_it_sees(environment, devices):
    settings = processes.process_settings(environment)
    assert settings.get("local_device_ids") == devices


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}, "JAX_COORDINATOR_ADDRESS is not"),
        (PLAIN | {"JAX_PROCESS_ID": "4"}, "process 4 of 4"),
        (PLAIN | {"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES='two'"),
        (TORCHRUN | {"MASTER_PORT": ""}, "MASTER_PORT=''"),
    ],
)
def test_contradictions_are_refused(environment, message):
    with pytest.raises(ValueError, match=message):
        processes.process_settings(environment)
