"""The subcommands of `alphard`: what each does, the words it takes, and an example that works."""

from collections.abc import Mapping
from dataclasses import dataclass, field

JOB = "projects/my-project/locations/europe-west4/hyperparameterTuningJobs/123"


@dataclass(frozen=True)
class Subcommand:
    """One subcommand; `module` has `main(arguments) -> int`.

    takes:     its positional words, as a reader sees them.
    folders:   patterns of the folders that the first of them may name.
    words:     its own key=value words, each with what it says.
    overrides: whether it takes the overrides of train.py as well.
    job:       whether it takes the settings of a job, those of vertex_ai/configs/job.yaml.
    """

    module: str
    does: str
    example: str
    takes: str = ""
    folders: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    overrides: bool = False
    job: bool = False


SUBCOMMANDS = {
    "new": Subcommand(
        "alphard.new_command",
        "look at a file of rows, and write the experiment that trains on it, with reasons",
        "alphard new rows.csv target=Survived name=mine",
        takes="ROWS",
        words={
            "target": "the column to predict",
            "name": "of the experiment; the file's own",
            "overwrite": "replace an experiment of that name; false",
            "separator": "of a CSV file; found where it is plain",
            "decimal": "likewise",
            "encoding": "utf-8",
        },
    ),
    "check": Subcommand(
        "alphard.check_command",
        "check a config whole, without training",
        "alphard check data=breast_cancer epochs=5",
        overrides=True,
    ),
    "results": Subcommand(
        "alphard.search.results_command",
        "draw report.html of a search, here or on Vertex AI, or of one run; a search's sorted table and trials.csv too",
        "alphard results studies/mlp",
        takes="STUDY|RUN|JOB",
        folders=("studies/*", "outputs/*/*"),
    ),
    "retrain": Subcommand(
        "alphard.search.retrain_command",
        "train a search's best on fresh seeds, beside baselines, then open the test split once",
        "alphard retrain studies/mlp seeds=5",
        takes="STUDY",
        folders=("studies/*",),
        words={"seeds": "how many; 5", "baselines": "scikit-learn's plain models beside it; true"},
        overrides=True,
    ),
    "prepare": Subcommand(
        "alphard.prepare_command",
        "fit the preprocessing on the training rows, write npz files, and print the line that trains on them",
        "alphard prepare experiment=titanic data.path=titanic_train.csv out=prepared",
        words={"out": "a folder, or gs://…", "overwrite": "replace what lies there; false"},
        overrides=True,
    ),
    "predict": Subcommand(
        "alphard.predict_command",
        "write what a finished run, or a study's winner, predicts for the rows of a CSV or Parquet file",
        "alphard predict studies/mlp/winner rows.csv out=predictions.csv keep=[id]",
        takes="RUN ROWS",
        folders=("studies/*/winner", "studies/*/trials/*", "outputs/*/*"),
        words={
            "out": "predictions.csv, .csv.gz or .parquet, or gs://…",
            "keep": "the rows' own columns to write beside, [id,name] or all",
            "separator": "of the rows' file; by default as in the run's own data",
            "decimal": "likewise",
            "encoding": "likewise",
            "overwrite": "replace what lies there; false",
        },
    ),
    "image": Subcommand(
        "vertex_ai.image_command",
        "build the container's image by docker or podman, tagged with the git revision, and push it",
        "alphard image build image=europe-west4-docker.pkg.dev/my-project/my-repository/alphard",
        takes="build|push",
        words={
            "engine": "docker, podman, or cloud for Cloud Build's command",
            "dirty": "take a tree that differs from its revision; false",
            "cuda": "torch for GPUs; false",
            "extras": "of pyproject.toml, separated by commas",
        },
        job=True,
    ),
    "rehearse": Subcommand(
        "vertex_ai.rehearse_command",
        "run the job that submit would send, here and for nothing, and say whether it is ready",
        "alphard rehearse experiment=mine search=mlp search.trials=4",
        overrides=True,
        job=True,
    ),
    "submit": Subcommand(
        "vertex_ai.submit_command",
        "a training, or its search, as a job on Vertex AI; dry_run=true prints it for gcloud",
        "alphard submit experiment=titanic_lesson search=titanic_lesson train=gs://… val=gs://… dry_run=true",
        overrides=True,
        job=True,
    ),
    "wait": Subcommand(
        "vertex_ai.wait_command",
        "follow a job of Vertex AI to its end; Ctrl-C leaves it running",
        f"alphard wait {JOB}",
        takes="JOB",
    ),
    "cancel": Subcommand(
        "vertex_ai.cancel_command",
        "end a job of Vertex AI; what its finished trials left is kept",
        f"alphard cancel {JOB}",
        takes="JOB",
    ),
    "completion": Subcommand(
        "alphard.completion",
        "print what makes a shell complete alphard's words",
        'eval "$(alphard completion bash)"',
        takes="bash|zsh",
    ),
}


def usage() -> str:
    """The list of subcommands, each with an example."""
    width = max(map(len, SUBCOMMANDS)) + 2
    lines = ["usage: alphard SUBCOMMAND [PATH …] [key=value …]", ""]
    for name, this in SUBCOMMANDS.items():
        lines += [f"  {name:<{width}}{this.does}", f"  {'':<{width}}$ {this.example}"]
    lines += [
        "",
        "alphard SUBCOMMAND --help lists its words.",
        "Training itself is `python train.py`; its --help shows the config.",
    ]
    return "\n".join(lines)


def help_of(name: str) -> str:
    """What one subcommand does, the words it takes, and an example."""
    this = SUBCOMMANDS[name]
    takes = f" {this.takes}" * bool(this.takes) + " [key=value …]" * bool(this.words or this.overrides or this.job)
    lines = [f"usage: alphard {name}{takes}", "", this.does, ""]
    width = max(map(len, this.words), default=0) + 3
    lines += [f"  {f'{key}=':<{width}}{says}" for key, says in this.words.items()]
    if this.job:
        lines.append("  the settings of a job, as in machine_type=n1-standard-8: vertex_ai/configs/job.yaml lists them")
    if this.overrides:
        lines.append("  any override of train.py, as in epochs=5: python train.py --help lists them")
    lines += [""] * (lines[-1] != "") + [f"  $ {this.example}"]
    return "\n".join(lines)
