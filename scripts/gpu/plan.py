"""What compare.py runs, in which order, and what it has run already. Needs neither a GPU nor PyTorch."""
import dataclasses
import hashlib
import json
import os

SIDES = ["turnwise", "pytorch"]
PARTS = ["train", "decode"]
CACHES = ["dynamic", "static"]
# Of training, as torch_training.py has them: what the goal names, then what may be faster or smaller.
QUICK_VARIANTS = ["bf16", "bf16+chunked", "bf16+chunked+cudnn"]
VARIANTS = ["bf16", "bf16+chunked", "bf16+chunked+cudnn", "fp32-autocast", "bf16+chunked+autotune"]
# A variant that is slower than this share of the fastest in the first round is not measured in later ones.
CONTENDS = 0.9
# Seconds that a process is thought to take where none like it has been run yet: PyTorch's spend most of them compiling.
EXPECTED = {("turnwise", "train"): 60, ("turnwise", "decode"): 60, ("pytorch", "train"): 150, ("pytorch", "decode"): 120}
EXPECTED_AUTOTUNE = 400


@dataclasses.dataclass(frozen=True)
class Job:
    """One process: one measurement of one side, whose peak of memory is therefore its own."""

    round: int
    side: str
    part: str
    network: str
    lengths: str  # of training; empty of decoding
    variant: str  # of PyTorch; empty of turnwise

    def __str__(self):
        return " ".join(word for word in (f"round {self.round + 1}:", self.side, self.part, self.network, self.lengths, self.variant) if word)


def jobs(o):
    """All of them, the ones that matter most first. Sides go first in turn, so that neither has the warm machine."""
    planned = []
    for number in range(o.rounds):
        for network in o.networks:
            groups = [(part, lengths) for part in o.parts for lengths in (o.lengths if part == "train" else [""])]
            for part, lengths in groups:
                variants = o.variants if part == "train" else o.caches
                group = [Job(number, "turnwise", part, network, lengths, ""), *(Job(number, "pytorch", part, network, lengths, v) for v in variants)]
                planned += [job for job in (group if number % 2 == 0 else group[::-1]) if job.side in o.sides]
    return planned


def contends(job, runs):
    """Whether a job is worth its time: not where its variant was far from the fastest, or failed, in the first round."""
    if job.round == 0 or job.side != "pytorch" or job.part != "train":
        return True
    rates = {
        run["variant"]: rate_of(run) for run in runs
        if (run["round"], run["side"], run["part"], run["network"], run["lengths"]) == (0, job.side, job.part, job.network, job.lengths)
    }
    return job.variant not in rates or rates[job.variant] >= CONTENDS * max(rates.values()) > 0


def rate_of(run):
    """Tokens a second of PyTorch's training; 0 where it failed."""
    return max((one.get("tokens_per_second", 0) for one in run.get("results", {}).get("training", [])), default=0)


def expected_seconds(job, runs):
    """As long as the longest like it, and a fifth more."""
    alike = [run["seconds"] for run in runs if (run["side"], run["part"], run["network"], run["variant"]) == (job.side, job.part, job.network, job.variant)]
    if alike:
        return 1.2 * max(alike)
    seconds = EXPECTED_AUTOTUNE if "autotune" in job.variant.split("+") else EXPECTED[job.side, job.part]
    return seconds * (1.5 if job.network == "1.7b" else 1)


def ours(o, job, out):
    command = [
        o.bench, "-test.run", "^TestMeasure$", "-test.v", "-out", out, "-measure", job.part, "-models", job.network, "-steps", str(o.steps), "-sequences", str(o.sequences),
        "-prompt", str(o.prompt), "-new", str(o.new), "-stored", o.stored, *o.bench_flags,
    ]
    if job.lengths:
        command += ["-lengths", job.lengths]
    return command if o.rehearse else command + ["-require"]


def theirs(o, job, out, folder):
    command = [
        o.python, os.path.join(folder, "torch_side.py"), "--out", out, "--parts", job.part, "--networks", job.network, "--steps", str(o.steps), "--sequences", str(o.sequences),
        "--prompt", str(o.prompt), "--new", str(o.new), "--micro-batches", str(o.torch_micro_batches),
    ]
    command += ["--lengths", job.lengths, "--variants", job.variant] if job.part == "train" else ["--caches", job.variant]
    return command + ["--device", "cpu"] * o.rehearse + ["--eager"] * o.torch_eager


class Kept:
    """Results in a folder, each in a file of a name that its job and the command for it make."""

    def __init__(self, folder, programs):
        """programs are the digests of the programs of each side: results of others are not taken for theirs."""
        self.folder, self.programs = folder, programs
        os.makedirs(folder, exist_ok=True)

    def path(self, job, command):
        """command is without the file that it writes, which is of no consequence, and neither is the folder that its program is in."""
        at = 0 if job.side == "turnwise" else 1  # behind the interpreter
        command = [*command[:at], os.path.basename(command[at]), *command[at + 1:]]
        digest = hashlib.sha256(json.dumps([dataclasses.asdict(job), command, self.programs[job.side]]).encode()).hexdigest()[:12]
        words = "".join(c if c.isalnum() or c in ".+-" else "_" for c in f"{job.round}-{job.side}-{job.part}-{job.network}-{job.lengths}-{job.variant}")
        return os.path.join(self.folder, f"{words[:100]}-{digest}.json")

    def read(self, path):
        """What was kept, or None."""
        try:
            with open(path) as file:
                return json.load(file)
        except (FileNotFoundError, json.JSONDecodeError):  # a process that was killed may have written half of it
            return None

    def write(self, path, run):
        with open(path + ".part", "w") as file:
            json.dump(run, file, indent=1)
        os.replace(path + ".part", path)


def settings(environment=os.environ):
    """A digest of the variables that may decide whether a measurement fails."""
    names = ("PATH", "PYTHON", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
    told = sorted((name, value) for name, value in environment.items() if name in names or name.startswith(("TURNWISE_", "CUDA_", "PYTORCH_")))
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


def digest_of(paths):
    """Of the contents of files."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()
