"""Ours beside what a user would pick instead, on the same prompts in one run.

    pip install scikit-learn litellm
    python tests/compare/classifiers.py DATA [BINARY]

DATA holds the labelled sets (task_type/…); BINARY is `stellwerk`, built for release. Task: accuracy
and calibration error on `dev_real`, German and English apart, of a plain TF-IDF model with logistic
regression trained on the public sets alone and with our own prompts, and of Stellwerk. Complexity:
how well LiteLLM's heuristic router and Stellwerk tell the hard prompts of ours that were kept back
from the easy ones (AUC). Time: one prompt after another, median.
"""

import glob
import gzip
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
OURS = os.path.join(HERE, "..", "..", "assets", "training")


def rows(path):
    opened = gzip.open if path.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def is_kept_back(row):
    return hashlib.sha256(row["text"].encode()).digest()[0] < 13


def accuracy(truth, guess):
    return sum(t == g for t, g in zip(truth, guess)) / len(truth)


def ece(truth, guess, sure, bins=10):
    total = 0.0
    for at in range(bins):
        part = [i for i, s in enumerate(sure) if at / bins < s <= (at + 1) / bins]
        if part:
            right = sum(truth[i] == guess[i] for i in part)
            total += abs(right - sum(sure[i] for i in part))
    return total / len(truth)


def auc(scores, truth):
    order = sorted(range(len(scores)), key=lambda i: scores[i])
    ranks, at = [0.0] * len(order), 0
    while at < len(order):
        to = at
        while to + 1 < len(order) and scores[order[to + 1]] == scores[order[at]]:
            to += 1
        for i in order[at : to + 1]:
            ranks[i] = (at + to) / 2 + 1
        at = to + 1
    hard = sum(truth)
    return (sum(r for r, t in zip(ranks, truth) if t) - hard * (hard + 1) / 2) / (
        hard * (len(truth) - hard)
    )


def stellwerk(binary, texts):
    lines = "".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(texts))
    done = subprocess.run([binary, "classify", "--jsonl"], input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def tfidf(train):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    features = make_union(
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2),
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
    )
    model = make_pipeline(features, LogisticRegression(C=4, max_iter=200, class_weight="balanced"))
    return model.fit([t for t, _ in train], [l for _, l in train])


def main():
    data = sys.argv[1]
    binary = sys.argv[2] if len(sys.argv) > 2 else "stellwerk"
    dev = rows(os.path.join(data, "task_type/dev_real.jsonl.gz"))
    ours = [row for path in sorted(glob.glob(os.path.join(OURS, "*.jsonl"))) for row in rows(path)]
    ours = [row for row in ours if "task" in row]
    public = [(r["text"], r["label"]) for r in rows(os.path.join(data, "task_type/train.jsonl.gz"))]
    learnt = [(r["text"], r["task"]) for r in ours if not is_kept_back(r)]

    print("| task on dev_real | German: accuracy, ECE | English: accuracy, ECE | ms a prompt |")
    print("|---|---|---|---|")
    texts = [row["text"] for row in dev]
    for name, train in [("TF-IDF, public sets", public), ("TF-IDF, and our prompts", public + learnt)]:
        model = tfidf(train)
        shares = model.predict_proba(texts)
        guess = [model.classes_[row.argmax()] for row in shares]
        took = []
        for text in texts[:60]:
            began = time.perf_counter()
            model.predict_proba([text])
            took.append((time.perf_counter() - began) * 1e3)
        tell(name, dev, guess, [row.max() for row in shares], took)
    found = stellwerk(binary, texts)
    tell(
        "Stellwerk, all heads, names and attacks",
        dev,
        [row["task"] for row in found],
        [row["task_confidence"] for row in found],
        [row["micros"] / 1e3 for row in found],
    )

    print("\n| hard or easy, our prompts kept back | German: AUC | English: AUC | ms a prompt |")
    print("|---|---|---|---|")
    kept = [r for r in ours if is_kept_back(r) and "turns" not in r and r["injection"] == 0]
    kept = [r for r in kept if r["complexity"] <= 0.2 or r["complexity"] >= 0.45]
    scores = [row["complexity"] for row in stellwerk(binary, [r["text"] for r in kept])]
    hardness("Stellwerk", kept, scores, [])
    hardness("length of the prompt", kept, [len(r["text"]) for r in kept], [])
    litellm_router(kept)


def tell(name, dev, guess, sure, took):
    cells = []
    for lang in ["de", "en"]:
        at = [i for i, row in enumerate(dev) if row["lang"] == lang]
        truth = [dev[i]["label"] for i in at]
        said, how = [guess[i] for i in at], [float(sure[i]) for i in at]
        cells.append(f"{accuracy(truth, said):.3f}, {ece(truth, said, how):.3f}")
    print(f"| {name} | {cells[0]} | {cells[1]} | {statistics.median(took):.2f} |", flush=True)


def hardness(name, kept, scores, took):
    cells = []
    for lang in ["de", "en"]:
        at = [i for i, row in enumerate(kept) if row["lang"] == lang]
        cells.append(f"{auc([scores[i] for i in at], [kept[i]['complexity'] >= 0.45 for i in at]):.3f}")
    time_taken = f"{statistics.median(took):.2f}" if took else ""
    print(f"| {name} | {cells[0]} | {cells[1]} | {time_taken} |", flush=True)


def litellm_router(kept):
    # Its price list would be fetched from the net otherwise.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    try:
        from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter
    except ImportError as error:
        print(f"| LiteLLM's complexity router | not there: {error} | | |")
        return
    router = ComplexityRouter(model_name="auto", ctx=None, derive_savings_baseline=False)
    scores, took = [], []
    for row in kept:
        began = time.perf_counter()
        _, score, _ = router.classify(row["text"])
        took.append((time.perf_counter() - began) * 1e3)
        scores.append(score)
    hardness("LiteLLM's complexity router", kept, scores, took)


if __name__ == "__main__":
    main()
