#!/usr/bin/env python3
"""Puts the tables of docs/performance.md together from what `retrosparse bench --json` measured, kernels/results/*.json.

  tools/benchmarks/kernel_tables.py            writes the tables between the page's marks anew
  tools/benchmarks/kernel_tables.py --check    fails where the page says something else
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "performance.md"
TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def lines(work):
    return json.loads((ROOT / "kernels" / "results" / f"{work}.json").read_text())["lines"]


def thousands(tokens):
    return f"{tokens // 1024}K" if tokens < 1 << 20 else f"{tokens >> 20}M"


def markdown(header, rows):
    cells = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(row) + " |\n" for row in cells)


def milliseconds(line, name):
    return f"{line[name + '_ms']:.4g} ({line[name + '_TFLOP_per_s']:.0f})"


def prefill():
    header = ["shape", "tokens", "FA2", "cuDNN", "dense, ours", "plan", "over FA2 / cuDNN", "tiles", "far tiles",
              "over FA2 / cuDNN"]
    return markdown(header, [
        [line["shape"], thousands(line["tokens"]), milliseconds(line, "fa2"), milliseconds(line, "cudnn"),
         milliseconds(line, "dense"), milliseconds(line, "plan"),
         f"{line['plan_vs_fa2']:.2f} / {line['plan_vs_cudnn']:.2f}", f"{line['tiles_ms']:.4g}",
         f"{line['far_tiles']:.1%}", f"{line['tiles_vs_fa2']:.2f} / {line['tiles_vs_cudnn']:.2f}"]
        for line in lines("prefill")])


def prefill_parts():
    parts = ["index", "resident", "selection", "selected"]
    return markdown(["shape", "tokens", *parts, "selection's share"], [
        [line["shape"], thousands(line["tokens"]), *(f"{line[part + '_ms']:.4g}" for part in parts),
         f"{line['selection_ms'] / line['tiles_ms']:.0%}"]
        for line in lines("prefill")])


def decode():
    columns = ["fa2_us", "cudnn_us", "dense_us", "resident_us", "selection_us", "selected_us", "sparse_us"]
    header = ["shape", "tokens", "batch", "FA2", "cuDNN", "dense, ours", "resident", "selection", "selected", "step",
              "over the best dense", "dense, ours: TB/s"]
    return markdown(header, [
        [line["shape"], thousands(line["tokens"]), str(line["batch"]), *(f"{line[column]:.4g}" for column in columns),
         f"{line['speed_up']:.2f}", f"{line['dense_TB_per_s']:.2f}"]
        for line in lines("decode")])


def select():
    return markdown(["shape", "tokens", "batch", "selection", "TB/s of index", "share of a copy's"], [
        [line["shape"], thousands(line["tokens"]), str(line["batch"]), f"{line['selection_us']:.4g}",
         f"{line['index_TB_per_s']:.2f}", f"{line['share_of_copy']:.0%}"]
        for line in lines("select")])


def floors():
    """What the project set out to reach, of shape A, beside what was measured."""
    def line(work, tokens, **more):
        wanted = {"shape": "A", "tokens": tokens << 10, **more}
        return next(line for line in lines(work) if wanted.items() <= line.items())

    def over_both(name, tokens, mode, fa2, cudnn):
        found = line("prefill", tokens)
        return name, f"{fa2} / {cudnn}", [(found[f"{mode}_vs_fa2"], fa2), (found[f"{mode}_vs_cudnn"], cudnn)], "{:.2f}"

    def tiles(tokens):
        return f"prefill {thousands(tokens << 10)} by tiles, {line('prefill', tokens)['far_tiles']:.1%} of the far ones"

    dense = line("prefill", 32)
    rows = [
        *(over_both(f"prefill {thousands(tokens << 10)}, retrieval heads dense, over FA2 / cuDNN", tokens, "plan", *least)
          for tokens, least in [(32, (3.0, 1.6)), (128, (6.5, 3.5)), (1024, (10, 5.5))]),
        over_both(tiles(128), 128, "tiles", 8.5, 4.7),
        over_both(tiles(1024), 1024, "tiles", 20, 11),
        ("dense causal attention alone, 32K, over cuDNN", "0.9", [(dense["cudnn_ms"] / dense["dense_ms"], 0.9)], "{:.2f}"),
        *((f"decode {thousands(tokens << 10)}, batch {batch}, over the best dense", str(least),
           [(line("decode", tokens, batch=batch)["speed_up"], least)], "{:.2f}")
          for tokens, batch, least in [(128, 1, 2.5), (128, 16, 5), (1024, 1, 7)]),
        ("decode selection alone, 1M: share of a copy's bandwidth", "60%",
         [(line("select", 1024)["share_of_copy"], 0.6)], "{:.0%}"),
    ]
    return markdown(["work", "floor", "measured", ""], [
        [name, least, " / ".join(form.format(value) for value, _ in pairs),
         "met" if all(value >= floor for value, floor in pairs) else "**not met**"]
        for name, least, pairs, form in rows])


TABLES = {"floors": floors, "prefill": prefill, "prefill_parts": prefill_parts, "decode": decode, "select": select}


def main(check):
    page = PAGE.read_text()
    renewed = TABLE.sub(lambda mark: mark[1] + TABLES[mark[2]]() + mark[3], page)
    if check:
        if renewed != page:
            sys.exit(f"{PAGE}: tables differ from kernels/results; run {Path(__file__).name}")
    else:
        PAGE.write_text(renewed)


if __name__ == "__main__":
    main("--check" in sys.argv[1:])
