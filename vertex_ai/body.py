"""A job as the REST API takes it: what it searches, its machines, their image, and what bounds them."""

from datetime import UTC, datetime
from typing import Any

from alphard.search.plan import Plan
from vertex_ai import spec
from vertex_ai.names import CUSTOM
from vertex_ai.settings import Job


def body(job: Job, kind: str, study: str, said: list[str], plan: Plan | None) -> dict[str, Any]:
    """The job around a container that is told `said`; the plan of a tuning job makes its StudySpec."""
    time = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S-%fZ")  # to the microsecond: no two jobs share a folder
    head: dict[str, Any] = {"displayName": f"{job.name or study}-{time}"}
    head |= {"labels": dict(job.labels)} if job.labels else {}
    each = _spec(job, f"{(job.base or 'gs://BUCKET').rstrip('/')}/{study}/{time}", said)
    if kind == CUSTOM:
        return head | {"jobSpec": each}
    assert plan is not None, "a tuning job searches"
    trials = plan.settings.total(plan.space)
    tuning = {
        "studySpec": spec.study_spec(plan.space, plan.settings, plan.configs, said),
        "maxTrialCount": trials,
        "parallelTrialCount": min(plan.settings.parallel, trials),
        "maxFailedTrialCount": plan.settings.max_failures,
        "trialJobSpec": each,
    }
    return head | tuning


def _spec(job: Job, base: str, said: list[str]) -> dict[str, Any]:
    machine: dict[str, Any] = {"machineType": job.machine_type}
    if job.accelerator:
        machine |= {"acceleratorType": job.accelerator, "acceleratorCount": job.accelerator_count}
    image: dict[str, Any] = {"imageUri": job.image, "args": said}
    image |= {"env": [{"name": k, "value": v} for k, v in job.environment.items()]} if job.environment else {}
    pool = {"machineSpec": machine, "replicaCount": 1, "diskSpec": {"bootDiskSizeGb": job.disk}}
    pools = [pool | {"containerSpec": image}]
    if job.replicas > 1:
        pools.append(pool | {"replicaCount": job.replicas - 1, "containerSpec": image})
    scheduling: dict[str, Any] = {"timeout": f"{round(3600 * job.timeout)}s"}
    scheduling |= {"strategy": "SPOT"} if job.spot else {}
    scheduling |= {} if job.restart else {"disableRetries": True}
    found = {"workerPoolSpecs": pools, "scheduling": scheduling, "baseOutputDirectory": {"outputUriPrefix": base}}
    names = {"serviceAccount": job.service_account, "network": job.network, "tensorboard": job.tensorboard}
    return found | {name: value for name, value in names.items() if value is not None}
