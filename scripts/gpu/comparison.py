"""What compare.py makes of measurements: rows, ratios, goals and tables. Pure functions, without PyTorch.

A run is one process of one side: {"round": 1, "side": "turnwise" or "pytorch", "part", "network", "lengths" and "variant" as plan.Job
has them, "gpu": its identity, "others_bytes": what the GPU's memory held before it, "seconds": how long it took, "results": what
the process wrote, or "error": why it wrote nothing}. Results of turnwise have the form of internal/gpubench/results.go, those of PyTorch
the form that torch_side.py describes.
"""
import statistics

TRAINING_GOAL = 1.2  # times the tokens a second of the faster PyTorch, with memory no higher
DECODING_GOAL = 5.0  # times the tokens a second of generate with its default cache
MET, MISSED, UNMEASURED = "met", "missed", "not measured"
MOST_TOKENS = 1 << 24
MOST_APART = 1.0  # nats between first losses of networks of random weights, which each side draws as it does


def parse_lengths(text):
    """The lengths of sequences, as gpubench reads them: "32x1024" are 32 of 1024 tokens, "4x300,17" are five."""
    lengths = []
    for item in text.split(","):
        number, x, length = item.partition("x")
        if not x:
            number, length = "1", item
        if not (number.isdecimal() and length.isdecimal()) or int(number) < 1 or int(length) < 2:
            raise ValueError(f"lengths {text!r}: {item!r} must be a length of at least 2, or a number, x and a length")
        if sum(lengths) + int(number) * int(length) > MOST_TOKENS:
            raise ValueError(f"lengths {text!r}: {MOST_TOKENS} tokens at most")
        lengths += [int(length)] * int(number)
    return lengths


def padded_batches(lengths, parts):
    """Cuts sequences into so many rectangular batches: [(rows, columns, lengths of the rows)].

    Those of one length need no padding. Others become four batches at least: sorted, and cut where the least is padded.
    """
    ordered = sorted(lengths, reverse=True)
    if ordered[0] == ordered[-1]:
        parts = min(parts, len(ordered))
        cuts = [len(ordered) * i // parts for i in range(parts + 1)]
    else:
        cuts = cheapest_cuts(ordered, min(max(parts, 4), len(ordered)))
    batches = [ordered[a:b] for a, b in zip(cuts, cuts[1:])]
    return [(len(rows), rows[0], rows) for rows in batches]


def packed_batches(lengths, parts):
    """Cuts sequences, in order, into so many rows, each of sequences behind each other: [(1, tokens, lengths)]."""
    parts, total = min(parts, len(lengths)), sum(lengths)
    rows, row, behind = [], [], 0
    for i, length in enumerate(lengths):
        left, missing = len(lengths) - i, parts - len(rows) - 1
        # A row ends where its share does, or where as many sequences are left as rows are missing.
        if row and missing and (behind + length / 2 > total * (len(rows) + 1) / parts or left <= missing):
            rows.append(row)
            row = []
        row.append(length)
        behind += length
    return [(1, sum(row), row) for row in [*rows, row]]


def cheapest_cuts(ordered, parts):
    """Where to cut descending lengths into that many runs, so that those of each, padded to its first, take the fewest tokens."""
    n = len(ordered)
    best = {0: (0, [0])}  # by how many are in a run already: the tokens so far, and the cuts
    for _ in range(parts):
        best = {
            end: min((best[start][0] + ordered[start] * (end - start), best[start][1] + [end]) for start in best if start < end)
            for end in range(1, n + 1) if any(start < end for start in best)
        }
    return best[n][1]


def results_of(runs, side):
    return [run for run in runs if run["side"] == side and "results" in run]


def collect(runs):
    """Samples of each measurement, by round: {(network, part, what, side, variant): [sample, …]}."""
    samples = {}
    for run in runs:
        for network, part, what, variant, one in entries(run):
            key = (network, part, what, run["side"], variant)
            samples.setdefault(key, []).append({**one, "round": run["round"], "others_bytes": run.get("others_bytes", 0), "void": void(run)})
    return samples


def void(run):
    """Whether it measured nothing, because there was no GPU."""
    results = run.get("results", {})
    return results.get("gpu", {}).get("emulated", False) or results.get("about", {}).get("device") == "cpu"


def entries(run):
    """What a run measured: (network, "training" or "decoding", what, variant, sample). A run of one batch has no other's."""
    if "error" in run:
        part = "training" if run["part"] == "train" else "decoding"
        yield run["network"], part, run["lengths"] if part == "training" else None, run["variant"], {"error": run["error"]}
        return
    asked = run.get("lengths")
    if run["side"] == "pytorch":
        networks = [{"name": one["network"], part: [one]} for part in ("training", "decoding") for one in run["results"].get(part, [])]
    else:
        networks = [{**network, "decoding": [network["decoding"]] if network.get("decoding") else []} for network in run["results"]["networks"]]
    for network in networks:
        for one in network.get("training") or []:
            if asked in (None, "", one["lengths"]):
                yield network["name"], "training", one["lengths"], one.get("variant", ""), counted(one, network)
        for one in network.get("decoding") or []:
            yield network["name"], "decoding", decoded(one), one.get("variant", ""), counted(one, network)


def counted(one, network):
    """A sample with the number of parameters, which turnwise tells of the network."""
    return {**one, "parameters": one.get("parameters", network.get("parameters"))}


def decoded(one):
    return f"{one['sequences']} × ({one['prompt']} + {one['new']})"


def summary(samples):
    """The median rate of some samples, the most memory, and what they say besides. None where no sample is there."""
    good = [s for s in samples or [] if not s.get("error")]
    if not good:
        errors = [s["error"] for s in samples or [] if s.get("error")]
        return {"error": errors[0]} if errors else None
    out = {
        "tokens_per_second": statistics.median(s["tokens_per_second"] for s in good),
        "by_round": {s["round"]: s["tokens_per_second"] for s in good},
        "allocated_bytes": max(s["memory_bytes"]["allocated"] for s in good),
        "driver_bytes": max(s["memory_bytes"]["driver"] - s["others_bytes"] for s in good),
    }
    for name in ("micro_batches", "layout", "compiled", "model_operations", "void"):
        if name in good[-1]:
            out[name] = good[-1][name]
    return out


def measured(s):
    return s is not None and "error" not in s


def rows(runs):
    """One row for each measurement of either side, in the order in which they were made first."""
    samples = collect(runs)
    order = []
    for network, part, what, _, _ in samples:
        if what is not None and (network, part, what) not in order:
            order.append((network, part, what))
    # What failed as a whole does not say what it would have decoded: it belongs to what its network decoded elsewhere.
    for network, part, what, _, _ in samples:
        if what is None and not any((n, p) == (network, part) for n, p, _ in order):
            order.append((network, part, ""))
    return [row(samples, *which) for which in order]


def row(samples, network, part, what):
    found = {}
    for (n, p, w, side, variant), some in samples.items():
        if (n, p) == (network, part) and w in (what, None):
            found.setdefault(side, {}).setdefault(variant, []).extend(some)
    ours = summary(found.get("turnwise", {}).get(""))
    theirs = {variant: summary(some) for variant, some in found.get("pytorch", {}).items()}
    rival = fastest(theirs) if part == "training" else "dynamic" if measured(theirs.get("dynamic")) else None
    out = {"network": network, "part": part, "what": what, "turnwise": ours, "pytorch": theirs, "rival": rival, "ratios": {}}
    for variant, their in theirs.items():
        if measured(ours) and measured(their):
            out["ratios"][variant] = ratio(ours, their)
    out["goals"] = goals(part, ours, theirs.get(rival), out["ratios"].get(rival))
    return out


def doubts(runs):
    """Sentences on what lets one doubt that both sides did the same work on the same GPU."""
    found = []
    gpus = sorted({run["gpu"] for run in runs if run.get("gpu")})
    if len(gpus) > 1:
        found.append(f"measured on {len(gpus)} GPUs: {', '.join(gpus)}")
    by_work = {}
    for (network, part, what, side, variant), samples in collect(runs).items():
        for one in samples:
            if one.get("graph_breaks") and not one["void"]:
                found.append(f"{network} {part} {what}: {side} {variant} is compiled in pieces, with {one['graph_breaks']} breaks")
            if one.get("mask") == "by transformers" and not one["void"]:
                found.append(f"{network} {part} {what}: {side} {variant} is given a mask by transformers, which no flash kernel takes")
            if not one.get("error"):
                by_work.setdefault((network, part, what), []).append((f"{side} {variant}".strip(), one))
    for (network, part, what), all_samples in by_work.items():
        for name, unit, apart in [("parameters", "parameters", 0), ("tokens", "tokens a step", 0), ("first_loss", "nats at first", MOST_APART)]:
            told = {who: one[name] for who, one in all_samples if one.get(name) is not None}
            if told and max(told.values()) - min(told.values()) > apart:
                found.append(f"{network} {part} {what}: {unit} differ: " + ", ".join(f"{who} {value:,}" for who, value in told.items()))
    return found


def fastest(theirs):
    """The variant with the highest rate; None without any."""
    good = {variant: s["tokens_per_second"] for variant, s in theirs.items() if measured(s)}
    return max(good, key=good.get) if good else None


def ratio(ours, theirs):
    """Of the medians, and the least and the largest within a round."""
    both = [ours["by_round"][r] / theirs["by_round"][r] for r in ours["by_round"] if r in theirs["by_round"]]
    return {
        "of_medians": ours["tokens_per_second"] / theirs["tokens_per_second"],
        "least": min(both, default=None), "most": max(both, default=None), "void": ours["void"] or theirs["void"],
    }


def goals(part, ours, theirs, how):
    """What was to be reached, and whether it was: [{"goal", "verdict"}]."""
    if part == "decoding":
        return [{"goal": f"≥ {DECODING_GOAL:g} × generate", "verdict": verdict(how, DECODING_GOAL)}]
    memory = UNMEASURED
    if measured(ours) and measured(theirs) and not how["void"]:
        lower = all(ours[count] <= theirs[count] for count in ("allocated_bytes", "driver_bytes"))
        memory = MET if lower else MISSED
    return [{"goal": f"≥ {TRAINING_GOAL:g} × PyTorch", "verdict": verdict(how, TRAINING_GOAL)}, {"goal": "memory no higher", "verdict": memory}]


def verdict(how, wanted):
    if how is None or how["void"]:
        return UNMEASURED
    return MET if how["of_medians"] >= wanted else MISSED


def overall(all_rows, part):
    """met where every row of a part meets all of its goals; missed where one misses any."""
    verdicts = [g["verdict"] for r in all_rows if r["part"] == part for g in r["goals"]]
    if MISSED in verdicts:
        return MISSED
    return MET if verdicts and UNMEASURED not in verdicts else UNMEASURED


HEADINGS = ["network", "what", "side", "tokens/s", "turnwise is", "by round", "of the product's ceiling", "allocated", "taken", "goals"]


def table(all_rows, ceiling=None):
    """Lines of cells: for each row ours, then each variant of theirs. ceiling is of a product, in operations a second."""
    lines = []
    for r in all_rows:
        ours = r["turnwise"]
        operations = ours.get("model_operations") if measured(ours) else None
        what = f"{r['part']} {r['what']}"
        verdicts = "; ".join(f"{g['goal']}: {g['verdict']}" for g in r["goals"])
        lines.append([r["network"], what, "turnwise", *cells(ours, None, operations, what, ceiling), verdicts])
        for variant, their in r["pytorch"].items():
            mark = " (compared with)" if variant == r["rival"] else ""
            lines.append(["", "", f"PyTorch {variant}{mark}", *cells(their, r["ratios"].get(variant), operations, what, ceiling), ""])
        if not r["pytorch"]:
            lines.append(["", "", "PyTorch", UNMEASURED, *[""] * 6])
    return lines


def cells(s, how, operations, what, ceiling):
    """Rate, ratio, ratios by round, share of the ceiling, memory."""
    if not measured(s):
        return [UNMEASURED if s is None else "failed", "", "", "", "", ""]
    rate = f"{s['tokens_per_second']:,.0f}"
    if s.get("micro_batches", 1) > 1:
        rate += f" in {s['micro_batches']} micro-batches"
    if s.get("layout", "dense") != "dense":
        rate += f", {s['layout']}"
    if s.get("compiled") == "layer":
        rate += ", compiled by layers"
    share = ""
    if operations and ceiling and what.startswith("training"):
        tokens = sum(parse_lengths(what.partition(" ")[2]))
        share = f"{operations * s['tokens_per_second'] / tokens / ceiling:.1%}"
    by_round = f"{how['least']:.2f}–{how['most']:.2f}" if how and how["least"] is not None else ""
    return [rate, f"{how['of_medians']:.2f} ×" if how else "", by_round, share, gib(s["allocated_bytes"]), gib(s["driver_bytes"])]


def failures(all_rows):
    """A sentence for each that failed."""
    found = []
    for r in all_rows:
        for who, s in [("turnwise", r["turnwise"]), *((f"PyTorch {variant}", s) for variant, s in r["pytorch"].items())]:
            if s is not None and not measured(s):
                found.append(f"failed: {r['network']} {r['part']} {r['what']}, {who}: {s['error']}")
    return found


def gib(count):
    return f"{count / 2**30:.1f} GiB"


def markdown(lines):
    """The cells as a table of Markdown."""
    out = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    return "\n".join(out + ["| " + " | ".join(line) + " |" for line in lines])


def text(lines):
    """The cells in columns."""
    widths = [max(len(line[i]) for line in [HEADINGS, *lines]) for i in range(len(HEADINGS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in [HEADINGS, *lines])


def conclusion(all_rows):
    return "\n".join(f"{part}: {overall(all_rows, part)}" for part in ("training", "decoding"))
