#!/usr/bin/env python3
"""The deep stage beside onnxruntime: the same encoder, the same machine, one thread, one run.

    pip install onnxruntime onnx numpy
    python tests/compare/encoder_onnxruntime.py [LAYERS]

Builds a BERT of our shape out of onnxruntime's own fused operators (Attention, SkipLayerNormalization,
Gelu), the form that its transformer optimiser aims at, quantises it with its quantize_dynamic, runs our
Criterion bench, and prints both medians and their ratio. Weights are random: time does not depend on them.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

WIDTH, HEADS, INNER, WORDS, POSITIONS = 384, 12, 1536, 40_000, 512
SHAPES = [(1, 16), (1, 64), (1, 256), (8, 64)]
ROOT = pathlib.Path(__file__).resolve().parents[2]
FLOATS = {"DefaultTensorType": TensorProto.FLOAT}
random = numpy.random.default_rng(1)


def model(layers):
    """Embeddings, layers, and mean beside maximum into 50 classes; 9 tags a token."""
    nodes, weights = [], []

    def weight(name, *shape, scale=0.05):
        values = random.normal(0, scale, shape).astype(numpy.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    def node(kind, inputs, output, **attributes):
        domain = "com.microsoft" if kind in ("Attention", "SkipLayerNormalization", "Gelu") else ""
        nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output

    def linear(name, source, inputs, outputs):
        product = node("MatMul", [source, weight(f"{name}.w", inputs, outputs)], f"{name}.product")
        return node("Add", [product, weight(f"{name}.b", outputs)], name)

    words = node("Gather", [weight("words", WORDS, WIDTH), "ids"], "word")
    places = node("Gather", [weight("places", POSITIONS, WIDTH), "positions"], "place")
    both = node("Add", [words, places], "both")
    norm = [weight("norm.w", WIDTH), weight("norm.b", WIDTH)]
    hidden = node("LayerNormalization", [both, *norm], "hidden", epsilon=1e-12)
    for index in range(layers):
        name = f"layer{index}"
        inputs = [hidden, weight(f"{name}.qkv.w", WIDTH, 3 * WIDTH), weight(f"{name}.qkv.b", 3 * WIDTH)]
        seen = node("Attention", inputs, f"{name}.seen", num_heads=HEADS)
        joined = linear(f"{name}.joined", seen, WIDTH, WIDTH)
        norm = [weight(f"{name}.n1.w", WIDTH), weight(f"{name}.n1.b", WIDTH)]
        hidden = node("SkipLayerNormalization", [joined, hidden, *norm], f"{name}.h1", epsilon=1e-12)
        inner = node("Gelu", [linear(f"{name}.inner", hidden, WIDTH, INNER)], f"{name}.gelu")
        outer = linear(f"{name}.outer", inner, INNER, WIDTH)
        norm = [weight(f"{name}.n2.w", WIDTH), weight(f"{name}.n2.b", WIDTH)]
        hidden = node("SkipLayerNormalization", [outer, hidden, *norm], f"{name}.h2", epsilon=1e-12)
    mean = node("ReduceMean", [hidden], "mean", axes=[1], keepdims=0)
    most = node("ReduceMax", [hidden], "most", axes=[1], keepdims=0)
    node("Concat", [mean, most], "pooled", axis=-1)
    nodes.append(helper.make_node("Identity", [linear("class", "pooled", 2 * WIDTH, 50)], ["classes"]))
    nodes.append(helper.make_node("Identity", [linear("tag", hidden, WIDTH, 9)], ["tags"]))

    tokens = ["texts", "tokens"]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info(name, TensorProto.INT64, tokens) for name in ("ids", "positions")],
        [
            helper.make_tensor_value_info("classes", TensorProto.FLOAT, ["texts", 50]),
            helper.make_tensor_value_info("tags", TensorProto.FLOAT, [*tokens, 9]),
        ],
        weights,
    )
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=versions, ir_version=9)


def median_ms(path, texts, tokens):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {
        "ids": random.integers(0, WORDS, (texts, tokens)),
        "positions": numpy.tile(numpy.arange(tokens), (texts, 1)),
    }
    times = []
    for _ in range(45):
        begin = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - begin)
    return 1e3 * float(numpy.median(times[5:]))


def ours_ms(kind, texts, tokens):
    folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    estimates = folder / "criterion" / "encoder" / kind / f"{texts}x{tokens}" / "new" / "estimates.json"
    return json.loads(estimates.read_text())["median"]["point_estimate"] / 1e6


def main():
    layers = sys.argv[1] if len(sys.argv) > 1 else "6"
    bench = ["cargo", "bench", "-q", "-p", "stellwerk-core", "--bench", "encoder", "--", "encoder/"]
    subprocess.run(bench, cwd=ROOT, env=os.environ | {"ENCODER_LAYERS": layers}, check=True)
    with tempfile.TemporaryDirectory() as folder:
        plain, int8 = f"{folder}/plain.onnx", f"{folder}/int8.onnx"
        onnx.save(model(int(layers)), plain)
        quantize_dynamic(plain, int8, per_channel=True, weight_type=QuantType.QInt8, extra_options=FLOATS)
        print(f"{layers} layers, one thread, median ms; onnxruntime {onnxruntime.__version__}")
        print("| texts x tokens | ours, int8 | onnxruntime, int8 | ratio | ours, f32 | onnxruntime, f32 |")
        print("|---|---|---|---|---|---|")
        for texts, tokens in SHAPES:
            theirs = [median_ms(path, texts, tokens) for path in (int8, plain)]
            ours = [ours_ms(kind, texts, tokens) for kind in ("int8", "f32")]
            print(
                f"| {texts} x {tokens} | {ours[0]:.2f} | {theirs[0]:.2f} | {theirs[0] / ours[0]:.1f} "
                f"| {ours[1]:.2f} | {theirs[1]:.2f} |"
            )


if __name__ == "__main__":
    main()
