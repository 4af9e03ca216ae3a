"""Jobs whose trials are a few lines of shell: what a test of the service needs, in milliseconds."""

from pathlib import Path
from typing import Any

from tests.vertex.service import Service
from vertex_ai.places import Direct

# It measures its own number in tenths.  Its first argument may say `wait`, which is until somebody ends it, or
# `fail=2,3`, the trials that fail.
TRIAL = """#!/bin/sh
n=${CLOUD_ML_TRIAL_ID:-0}
case "$1" in
wait) exec sleep 600 ;;
fail=*) case ",${1#fail=}," in *",$n,"*) echo "error: $n was told to fail" >&2; exit 3 ;; esac ;;
esac
echo '{"timestamp": 1.0, "trial": "'$n'", "score": "0.'$n'", "global_step": "1", "checkpoint_path": ""}' \
    >"$CLOUD_ML_HP_METRIC_FILE"
"""

Job = dict[str, Any]
TUNING, CUSTOM = "hyperparameterTuningJobs", "customJobs"


def service(folder: Path, **more: Any) -> Service:
    """The stand-in, whose trials are TRIAL."""
    script = folder / "convert_command.sh"
    script.write_text(TRIAL)
    script.chmod(0o755)
    return Service(folder / "service", Direct(folder), restarts=0, grace=1.0, **more)


def job(kind: str, *arguments: str, name: str = "mine-2026-11-21", trials: int = 4, **more: Any) -> Job:
    """A job as alphard submit makes it."""
    spec = {
        "workerPoolSpecs": [
            {
                "machineSpec": {"machineType": "n1-standard-4"},
                "replicaCount": 1,
                "diskSpec": {"bootDiskSizeGb": 100},
                "containerSpec": {"imageUri": "registry/alphard:1", "args": [*arguments]},
            }
        ],
        "scheduling": {"timeout": "600s"},
        "baseOutputDirectory": {"outputUriPrefix": f"gs://b/alphard/{name}"},
    }
    if kind == CUSTOM:
        return {"displayName": name, "jobSpec": spec, **more}
    study = {
        "metrics": [{"metricId": "score", "goal": "MAXIMIZE"}],
        "parameters": [
            {
                "parameterId": "learning_rate",
                "scaleType": "UNIT_LOG_SCALE",
                "doubleValueSpec": {"minValue": 1e-4, "maxValue": 0.1},
            },
            {"parameterId": "epochs", "integerValueSpec": {"minValue": 100, "maxValue": 300}},
            {"parameterId": "hidden", "categoricalValueSpec": {"values": ["[64,32]", "[8]"]}},
        ],
    }
    counts = {"maxTrialCount": trials, "parallelTrialCount": min(2, trials), "maxFailedTrialCount": 1}
    return {"displayName": name, "studySpec": study, **counts, "trialJobSpec": spec, **more}
