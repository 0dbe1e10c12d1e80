#!/usr/bin/env python3
"""Compares the matrix product of kernels/device/cpu with OpenBLAS's on this machine.

Run it from the repository's root:

    python3 scripts/bench/gemm_side_by_side.py [--rounds 15] [--threads 1,2] [--shapes 1024x512x128,...] [--json FILE]

It needs go, gcc and OpenBLAS (Debian: libopenblas0-pthread and libopenblas-dev). Short samples of the two alternate,
each in a process of its own, so that what else the machine does meets both alike. A row is one shape, number of threads
and form: AB reads B as k x n, ABt as n x k. The rates are GFLOP/s: the median and, in brackets, the maximum of the
samples, and ours over theirs for each. Both pack B in every call, where they pack it at all.

OpenBLAS's own environment variables are taken away: where OPENBLAS_CORETYPE asks for older kernels than the machine
runs, as some workplaces have it, it is half as fast. "choice" is what it then chooses itself.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
import time

SHAPES = "1024x512x128,512x512x512,16x512x512,2048x2048x2048"


def build(folder):
    ours, theirs = os.path.join(folder, "cpu.test"), os.path.join(folder, "gemm_openblas")
    subprocess.run(["go", "test", "-c", "-o", ours, "./kernels/device/cpu"], check=True)
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gemm_openblas.c")
    subprocess.run(["gcc", "-O2", source, "-o", theirs, "-lopenblas"], check=True)
    return ours, theirs


def sample_ours(binary, shape, form, threads, seconds):
    pattern = f"^BenchmarkGemm$/^{form}$/^{shape}$/^threads={threads}$"
    command = [binary, "-test.run=^$", f"-test.bench={pattern}", f"-test.benchtime={seconds}s"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(re.search(r"([\d.]+) GFLOP/s", text).group(1))


def run_theirs(binary, kernels, threads, *arguments):
    """Runs OpenBLAS with the kernels asked for, or those that it chooses."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    environment["OPENBLAS_NUM_THREADS"] = str(threads)
    if kernels != "choice":
        environment["OPENBLAS_CORETYPE"] = kernels
    return subprocess.run([binary, *arguments], check=True, capture_output=True, text=True, env=environment).stdout


def idle_share(seconds=0.1):
    """The share of this machine's processors that is idle for a moment."""
    def read():
        with open("/proc/stat") as stat:
            values = [int(v) for v in stat.readline().split()[1:]]
        return values[3] + values[4], sum(values)
    idle, total = read()
    time.sleep(seconds)
    idle_after, total_after = read()
    return (idle_after - idle) / max(total_after - total, 1)


def await_quiet(seconds):
    """Waits until the machine is idle, for at most so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and idle_share() < 0.95:
        pass


def compare(binaries, shape, form, threads, options):
    samples = {who: [] for who in ["ours"] + options.kernels.split(",")}
    for turn in range(options.rounds):
        order = list(samples)
        for who in order[turn % len(order):] + order[:turn % len(order)]:
            await_quiet(options.wait)
            if who == "ours":
                rate = sample_ours(binaries[0], shape, form, threads, options.seconds)
            else:
                transposed = "1" if form == "ABt" else "0"
                rate = float(run_theirs(binaries[1], who, threads, *shape.split("x"), transposed, str(options.seconds)))
            samples[who].append(rate)
    return {"shape": shape, "form": form, "threads": threads, "load": os.getloadavg()[0], "samples": samples}


def line(row):
    """One row of the table: median (maximum), and for OpenBLAS the ratios of ours to these."""
    ours = row["samples"]["ours"]
    cells = [f"{statistics.median(ours):6.1f} ({max(ours):6.1f})"]
    for who, theirs in row["samples"].items():
        if who != "ours":
            median, best = statistics.median(theirs), max(theirs)
            cells.append(f"{median:6.1f} ({best:6.1f}) {statistics.median(ours) / median:5.2f} ({max(ours) / best:5.2f})")
    return f"{row['shape']:14} {row['form']:4} {row['threads']:7} | " + " | ".join(cells) + f" | {row['load']:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.2, help="of one sample")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--shapes", default=SHAPES, help="m x n x k, those of benchShapes in bench_test.go")
    parser.add_argument("--forms", default="AB,ABt")
    parser.add_argument("--wait", type=float, default=5, help="for an idle machine before each sample, at most so many seconds")
    parser.add_argument("--kernels", default="choice", help="choice, or values of OPENBLAS_CORETYPE")
    parser.add_argument("--json", help="write every sample to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        binaries = build(folder)
        for kernels in options.kernels.split(","):
            print(f"{kernels}: {run_theirs(binaries[1], kernels, 1).strip()}")
        titles = [f"{who} GFLOP/s, ours is x times" for who in options.kernels.split(",")]
        print(f"{'shape':14} {'form':4} threads | ours, best       | " + " | ".join(f"{title:31}" for title in titles) + " | load")
        rows = []
        for threads in options.threads.split(","):
            for shape in options.shapes.split(","):
                for form in options.forms.split(","):
                    rows.append(compare(binaries, shape, form, int(threads), options))
                    print(line(rows[-1]), flush=True)
    if options.json:
        with open(options.json, "w") as out:
            json.dump(rows, out, indent=1)


if __name__ == "__main__":
    main()
