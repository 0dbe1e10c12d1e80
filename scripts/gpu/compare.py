#!/usr/bin/env python3
"""Measures turnwise and PyTorch with transformers side by side on this machine's GPU: training, and decoding.

    CGO_ENABLED=0 go test -c -ldflags='-s -w' -o gpubench.test ./internal/gpubench
    python3 scripts/gpu/compare.py [--model 0.6b|1.7b|both] [--quick] [--keep FOLDER --minutes N] [--json FILE] [--markdown FILE]

The first command may run on another machine. It needs a GPU, PyTorch and transformers, and nothing else; --python names the
interpreter that has them. Weights are random: nothing is fetched.

Each measurement of each variant is a process of its own, alternately one side first and the other, so that neither has the
warm machine. Rates are medians over the rounds of the median step of each. turnwise trains packed sequences in bf16 over
float32 weights, or over bf16 ones with --stored bf16. PyTorch is what torch_side.py and torch_training.py describe, in several
variants; the goal is compared with the fastest, and the others are shown. After the first round those that were far behind are left
out. Decoding is compared with generate as it is by default; its static cache, for which it compiles the model, is shown beside it.
turnwise also computes the log-probability and the entropy of each token, PyTorch does not.

Memory is what each side's allocator had in use at its peak, and what the driver did not have free, less what it did not have
free before. The goal wants both no higher than those of the variant that it is compared with. Goals are told as met, missed or not measured.

--keep leaves what was measured in a folder, and the same command goes on from there, on another machine too. What failed is measured
again with --retry, and where PATH or a variable that begins with TURNWISE_, CUDA_ or PYTORCH_ is another. With --minutes nothing is begun that is
thought not to end in time; what is left is told, and the exit status is 3. A measurement that fails is told and does not stop the others.
The exit status is 1 where one failed or where both sides do not seem to do the same work.

--rehearse needs no GPU: turnwise emulates one, PyTorch takes the processor, for a tiny network. It tries the scripts and measures nothing.
"""
import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import comparison
import plan

HERE = os.path.dirname(os.path.abspath(__file__))
UNFINISHED = 3


def nvidia_smi(fields):
    """What nvidia-smi tells of the first visible GPU, or None."""
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if visible:
        command.append(f"--id={visible.split(',')[0]}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return [cell.strip() for cell in done.stdout.splitlines()[0].split(",")] if done.returncode == 0 and done.stdout else None


def others_bytes():
    """Memory of the GPU that is in use before a process of ours starts."""
    cells = nvidia_smi("memory.used")
    return int(cells[0]) * 2**20 if cells and cells[0].isdecimal() else 0


def command_of(o, job, out):
    return plan.ours(o, job, out) if job.side == "turnwise" else plan.theirs(o, job, out, HERE)


def limited(command, seconds):
    """Runs a command, and ends it with all that it started when it takes too long. Its output goes to standard error, so that
    standard output has the table alone. Returns its exit status, or None where it took too long."""
    process = subprocess.Popen(command, stdout=sys.stderr, stderr=sys.stderr, start_new_session=True)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run(o, job, seconds):
    """One process, of so many seconds at most. None of its results where it did not end in time."""
    gpu = nvidia_smi("uuid")
    made = {
        "round": job.round, "side": job.side, "part": job.part, "network": job.network, "lengths": job.lengths, "variant": job.variant,
        "others_bytes": others_bytes(), "gpu": gpu[0] if gpu else "",
    }
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.json")
        command = command_of(o, job, out)
        print(f"\n{job}\n  {' '.join(command)}", file=sys.stderr, flush=True)
        begun = time.monotonic()
        status = limited(command, seconds)
        made["seconds"] = time.monotonic() - begun
        if status is None:
            return made | {"error": f"took more than {seconds:.0f} seconds", "late": True}
        if status != 0:
            return made | {"error": f"ended with status {status}"}
        with open(out) as file:
            return made | {"results": json.load(file)}


def measure(o, kept):
    """Runs what has not been run, and returns all runs with the number of those left for lack of time."""
    runs, left, begun, first = [], 0, time.monotonic(), not o.rest
    try:
        for job in plan.jobs(o):
            if not plan.contends(job, runs):
                continue
            path = kept.path(job, command_of(o, job, ""))
            found = kept.read(path)
            if found and not (failed(found) and (o.retry or found.get("settings") != plan.settings())):
                runs.append(found)
                continue
            remains = 60 * o.minutes - (time.monotonic() - begun) if o.minutes else float("inf")
            if left or not first and remains < plan.expected_seconds(job, runs):
                left += 1
                continue
            made = run(o, job, max(1, min(o.limit, remains)))
            # What had less time than it may take, because others came before it, is begun anew the next time.
            if made.pop("late", False) and not first and remains < o.limit:
                left += 1
                continue
            first = False
            made["settings"] = plan.settings()
            kept.write(path, made)
            runs.append(made)
    except KeyboardInterrupt:
        print("interrupted: what was measured before is told", file=sys.stderr)
        left += 1
    return runs, left


def failed(run):
    return "error" in run or any("error" in one for part in ("training", "decoding") for one in run["results"].get(part) or [])


def about(o, runs):
    """Where it was measured: lines for people."""
    lines = [f"{datetime.datetime.now().astimezone():%Y-%m-%d %H:%M %Z}"]
    if o.rehearse:
        lines.append("a rehearsal without a GPU: its numbers mean nothing")
    cells = nvidia_smi("name,driver_version,memory.total")
    if cells:
        lines.append(f"{cells[0]}, driver {cells[1]}, {cells[2]} MiB")
    for result in comparison.results_of(runs, "turnwise")[:1]:
        gpu, ceilings = result["results"]["gpu"], result["results"]["ceilings"]
        lines.append(
            f"turnwise on {gpu['name']}, {gpu['device']}, trained weights in {o.stored}; a copy moves {ceilings['bytes_per_second'] / 1e12:.2f} TB/s,"
            f" a product of {ceilings['product_size']}³ does {ceilings['operations_per_second'] / 1e12:.0f} TFLOP/s"
        )
    for result in comparison.results_of(runs, "pytorch")[:1]:
        a = result["results"]["about"]
        lines.append(f"PyTorch {a['torch']} with CUDA {a['cuda']}, cuDNN {a.get('cudnn')}, transformers {a['transformers']}, Python {a['python']}")
    return lines


def ceiling(runs):
    """The fastest product of all of our processes."""
    found = [run["results"]["ceilings"]["operations_per_second"] for run in comparison.results_of(runs, "turnwise")]
    return max(found, default=None)


def check(o):
    """Ends with one sentence where something is lacking, before anything is measured."""
    if "turnwise" in o.sides and not os.access(o.bench, os.X_OK):
        raise SystemExit(f"no {o.bench}: make it with CGO_ENABLED=0 go test -c -ldflags='-s -w' -o gpubench.test ./internal/gpubench, or name it with --bench")
    for text in o.lengths:
        try:
            comparison.parse_lengths(text)
        except ValueError as error:
            raise SystemExit(f"--batch {error}")
    if "pytorch" not in o.sides:
        return
    probe = "import sys, torch, transformers; sys.path.insert(0, sys.argv[1]); import torch_training; transformers.Qwen3Config; [torch_training.parse_variant(v) for v in sys.argv[2:]]"
    if not o.rehearse:
        probe += "; assert torch.cuda.is_available(), f'PyTorch {torch.__version__} sees no GPU'"
    try:
        done = subprocess.run([o.python, "-c", probe, HERE, *o.variants], capture_output=True, text=True)
    except OSError as error:
        raise SystemExit(f"--python {o.python}: {error}")
    if done.returncode != 0:
        raise SystemExit(f"{o.python} cannot take PyTorch's side: {done.stderr.strip().splitlines()[-1]}")


def options(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["0.6b", "1.7b", "both"], help="both by default")
    parser.add_argument("--parts", default="train,decode")
    parser.add_argument("--batch", action="append", metavar="LENGTHS", help="32x1024 and 4x8192 by default; may be given again")
    parser.add_argument("--rounds", type=int, help="3 by default")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of a process; rounds of decoding are 1 + a fifth of it")
    parser.add_argument("--sequences", type=int, default=64, help="decoded at once")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--new", type=int, default=512)
    parser.add_argument("--quick", action="store_true", help="one round of one batch, one network and fewer variants, unless they are named: minutes, not hours")
    parser.add_argument("--stored", choices=["f32", "bf16"], default="f32", help="what turnwise keeps weights in; moments and gradients are float32")
    parser.add_argument("--torch-variants", metavar="VARIANTS", help=f"of PyTorch's training, with commas; the fastest counts: {','.join(plan.VARIANTS)} by default")
    parser.add_argument("--torch-caches", default=",".join(plan.CACHES), metavar="CACHES", help="of generate; dynamic counts, which is its default")
    parser.add_argument("--torch-micro-batches", type=int, default=0, help="0: as few as fit")
    parser.add_argument("--torch-eager", action="store_true", help="do not compile, to try the scripts")
    parser.add_argument("--sides", default=",".join(plan.SIDES), help="one of them measures that side alone")
    parser.add_argument("--bench", default="./gpubench.test", help="the binary of turnwise's side")
    parser.add_argument("--bench-flags", default="", help="more of its flags, separated by spaces: -recompute, -micro 8192")
    parser.add_argument("--python", default=sys.executable, help="an interpreter with PyTorch and transformers")
    parser.add_argument("--rehearse", action="store_true", help="try the scripts without a GPU")
    parser.add_argument("--keep", metavar="FOLDER", help="leave what was measured there, and take what is there already")
    parser.add_argument("--retry", action="store_true", help="measure again what failed")
    parser.add_argument("--minutes", type=float, default=0, help="begin nothing that is thought to end later; 0: no limit")
    parser.add_argument("--rest", action="store_true", help="--minutes are what other work has left: what they do not suffice for is begun another time")
    parser.add_argument("--limit", type=float, default=900, help="seconds that a process may take")
    parser.add_argument("--json", metavar="FILE", help="write everything there")
    parser.add_argument("--markdown", metavar="FILE", help="write the table there")
    o = parser.parse_args(words)
    o.rounds = o.rounds if o.rounds is not None else 1 if o.quick else 3
    o.model = o.model or ("0.6b" if o.quick else "both")
    o.networks = ["0.6b", "1.7b"] if o.model == "both" else [o.model]
    o.lengths = o.batch or (["32x1024"] if o.quick else ["32x1024", "4x8192"])
    o.variants = o.torch_variants.split(",") if o.torch_variants else plan.QUICK_VARIANTS if o.quick else plan.VARIANTS
    o.parts, o.sides, o.caches, o.bench_flags = o.parts.split(","), o.sides.split(","), o.torch_caches.split(","), o.bench_flags.split()
    if o.rehearse:  # what gpubench measures on the emulated GPU, whatever it is told
        o.networks, o.lengths, o.sequences, o.prompt, o.new = ["tiny"], ["2x9", "12,5"], 3, 7, 5
    for name, number in [("--rounds", o.rounds), ("--steps", o.steps), ("--sequences", o.sequences), ("--prompt", o.prompt), ("--limit", o.limit)]:
        if number < 1:
            parser.error(f"{name} {number}: must be at least 1")
    if o.minutes < 0:
        parser.error(f"--minutes {o.minutes}: must be at least 0")
    if o.minutes and not o.keep:
        parser.error("--minutes needs --keep: the next call goes on from there")
    for name, values, known in [("--parts", o.parts, plan.PARTS), ("--sides", o.sides, plan.SIDES), ("--torch-caches", o.caches, plan.CACHES)]:
        if unknown := [v for v in values if v not in known]:
            parser.error(f"{name} {', '.join(unknown)}: know {', '.join(known)}")
    return o


def report(o, runs):
    """Prints and writes the table. Returns what lets one doubt it."""
    rows, doubts = comparison.rows(runs), comparison.doubts(runs)
    lines, where = comparison.table(rows, ceiling(runs)), about(o, runs)
    end = "\n".join([*comparison.failures(rows), *(f"doubt: {d}" for d in doubts), comparison.conclusion(rows)])
    print("\n".join(where), comparison.text(lines), end, sep="\n\n", flush=True)
    if o.markdown:
        with open(o.markdown, "w") as file:
            print("\n".join(where), comparison.markdown(lines), end, sep="\n\n", file=file)
    if o.json:
        with open(o.json, "w") as file:
            json.dump({"about": where, "rows": rows, "doubts": doubts, "runs": runs}, file, indent=1)
    return doubts


def main():
    o = options()
    check(o)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # told to end, it ends what it started, and reports
    files = {"turnwise": [o.bench], "pytorch": [os.path.join(HERE, name) for name in ("comparison.py", "torch_side.py", "torch_training.py")]}
    with tempfile.TemporaryDirectory() as folder:
        runs, left = measure(o, plan.Kept(o.keep or folder, {side: plan.digest_of(files[side]) for side in o.sides}))
    doubts = report(o, runs)
    if left:
        print(f"{left} of {left + len(runs)} measurements are left, at most: the same command goes on", flush=True)
        sys.exit(UNFINISHED)
    sys.exit(1 if doubts or any(map(failed, runs)) else 0)


if __name__ == "__main__":
    main()
