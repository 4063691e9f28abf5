#!/usr/bin/env python3
"""Prefill and greedy decode on the CPU beside transformers (sdpa, float32), in turns in the same run.

  .venv/bin/python tools/benchmarks/compare_transformers.py [MODEL_DIR] [--tokens 4096] [--new 64] [--runs 5]

Both sides use the same threads, compute the scores of the last prompt token only, and keep a KV cache. Ours is started
anew for each run (its times exclude loading), transformers stays loaded and is warmed up first. Prints the median,
the extremes and the ratio of the medians.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).resolve().parents[2]


class Ours:
    def __init__(self, model_dir, ids, threads):
        self.ids = tempfile.NamedTemporaryFile("w", suffix=".json")
        json.dump(ids.tolist(), self.ids)
        self.ids.flush()
        self.command = [ROOT / "build" / "retrosparse", "generate", "--model", model_dir, "--device", "cpu", "--json",
                        "--quiet", "--threads", str(threads), "--prompt-ids", self.ids.name, "--ignore-eos"]

    def run(self, new_tokens):
        """(prefill tokens/s, decode tokens/s)"""
        out = subprocess.run([*self.command, "--max-new-tokens", str(new_tokens)], capture_output=True, text=True,
                             check=True).stdout
        result = json.loads(out)
        return result["prefill_tokens_per_second"], result["decode_tokens_per_second"]


class Transformers:
    def __init__(self, model_dir, ids, threads):
        torch.set_num_threads(threads)
        self.model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32,
                                                          attn_implementation="sdpa").eval()
        self.ids = ids

    @torch.inference_mode()
    def run(self, new_tokens):
        start = time.perf_counter()
        out = self.model(self.ids[None], use_cache=True, logits_to_keep=1)
        prefilled = time.perf_counter()
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        for _ in range(new_tokens):
            out = self.model(token, past_key_values=out.past_key_values, use_cache=True)
            token = out.logits[:, -1].argmax(-1, keepdim=True)
        return len(self.ids) / (prefilled - start), new_tokens / (time.perf_counter() - prefilled)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir", nargs="?", default=ROOT / "examples" / "nano", type=Path)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()

    vocab = json.loads((options.model_dir / "config.json").read_text())["vocab_size"]
    ids = torch.randint(0, vocab, (options.tokens,), generator=torch.Generator().manual_seed(0))
    sides = {"retrosparse": Ours(options.model_dir, ids, options.threads),
             "transformers": Transformers(options.model_dir, ids, options.threads)}
    for side in sides.values():
        side.run(2)
    results = {name: [] for name in sides}
    for _ in range(options.runs):
        for name, side in sides.items():
            results[name].append(side.run(options.new))

    print(f"{options.model_dir.name}, {options.tokens} tokens, {options.threads} threads, float32, {options.runs} runs; "
          "tokens/s: median (lowest to highest)")
    medians = {}
    for kind, column in (("prefill", 0), ("decode", 1)):
        for name, rows in results.items():
            rates = [row[column] for row in rows]
            medians[name] = statistics.median(rates)
            print(f"  {kind:8} {name:13} {medians[name]:8.1f} ({min(rates):.1f} to {max(rates):.1f})")
        print(f"  {kind:8} ratio         {medians['retrosparse'] / medians['transformers']:8.2f}")


if __name__ == "__main__":
    main()
