"""Distributed runs on machines without a GPU."""

from __future__ import annotations

import os
import subprocess
from datetime import timedelta

import torch
from mmengine.config import Config


def process_rank() -> int:
    """The rank that the launcher gave this process, before any process group exists.

    torchrun sets ``RANK``, Slurm ``SLURM_PROCID``, Open MPI ``OMPI_COMM_WORLD_RANK``.
    """
    names = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")
    return next((int(os.environ[n]) for n in names if n in os.environ), 0)


def join_cpu_processes(cfg: Config) -> None:
    """Start the process group of a launcher with gloo where there is no GPU.

    MMEngine's launchers select a CUDA device before anything else; a process group that
    exists is taken as it is. A process waits for the others for
    ``env_cfg.dist_cfg.timeout`` seconds, as with a GPU.
    """
    if cfg.launcher == "none" or torch.cuda.is_available():
        return
    if cfg.launcher == "slurm":
        os.environ.update(slurm_environment())
    elif cfg.launcher == "mpi":
        os.environ.update(mpi_environment())
    settings = (cfg.get("env_cfg") or {}).get("dist_cfg") or {}
    timeout = settings.get("timeout")
    torch.distributed.init_process_group(
        "gloo", timeout=timeout and timedelta(seconds=timeout)
    )
    cfg.model_wrapper_cfg = {
        "type": "MMDistributedDataParallel",
        "broadcast_buffers": True,
        "find_unused_parameters": cfg.get("find_unused_parameters", False),
        **(cfg.get("model_wrapper_cfg") or {}),
        "device_ids": None,
    }


def mpi_environment() -> dict[str, str]:
    """The variables that torchrun sets, from those of Open MPI's ``mpirun``."""
    env = os.environ
    return {
        "RANK": env["OMPI_COMM_WORLD_RANK"],
        "WORLD_SIZE": env["OMPI_COMM_WORLD_SIZE"],
        "LOCAL_RANK": env["OMPI_COMM_WORLD_LOCAL_RANK"],
        "MASTER_ADDR": env.get("MASTER_ADDR", "127.0.0.1"),
        "MASTER_PORT": env.get("MASTER_PORT", "29500"),
    }


def slurm_environment() -> dict[str, str]:
    """The variables that torchrun sets, from those of ``srun``, as in MMEngine."""
    env = os.environ
    variables = {
        "RANK": env["SLURM_PROCID"],
        "WORLD_SIZE": env["SLURM_NTASKS"],
        "LOCAL_RANK": env["SLURM_LOCALID"],
        "MASTER_PORT": env.get("MASTER_PORT", "29500"),
    }
    if "MASTER_ADDR" not in env:
        hosts = subprocess.run(
            ["scontrol", "show", "hostnames", env["SLURM_NODELIST"]],
            check=True,
            capture_output=True,
            text=True,
        )
        variables["MASTER_ADDR"] = hosts.stdout.split()[0]
    return variables
