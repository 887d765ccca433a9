#!/usr/bin/env bash
# Software: onnxruntime 1.32.0, onnx 1.23.2 (Resize, antialias=1), Pillow 13.0.0
# Input: 500 x 500 float noise in 0 to 255, resized to 224 x 224
# Guess: linear, and cubic with a = -0.5, agree with Pillow's float resize within one level
# Seen: inside within 0.003; at the border 11.9 (linear) and 7.5 (cubic) off; with exclude_outside=1
#   within 0.003 everywhere
# Matters: a resize exported into the graph changes the border of every image after training
# vtrain: does not put the resize into the exported graph
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
install onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 pillow==13.0.0
observe <<'PY'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from PIL import Image
image = np.random.default_rng(0).uniform(0, 255, (500, 500)).astype(np.float32)
words = []
for mode, pillow in (("linear", Image.BILINEAR), ("cubic", Image.BICUBIC)):
    right = np.asarray(Image.fromarray(image).resize((224, 224), pillow))
    for outside in (0, 1):
        node = helper.make_node("Resize", ["x", "", "", "size"], ["y"], mode=mode, antialias=1,
                                cubic_coeff_a=-0.5, exclude_outside=outside)
        graph = helper.make_graph(
            [node], "resize",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 500, 500])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [helper.make_tensor("size", TensorProto.INT64, [4], [1, 1, 224, 224])])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        session = onnxruntime.InferenceSession(model.SerializeToString(),
                                               providers=["CPUExecutionProvider"])
        gap = abs(session.run(None, {"x": image[None, None]})[0][0, 0] - right)
        whole = "far" if gap.max() > 5 else "near" if gap.max() < 0.01 else "between"
        words.append(f"{mode} {outside} {whole} {'near' if gap[4:-4, 4:-4].max() < 0.01 else 'far'}")
print("; ".join(words))
PY
expect "linear 0 far near; linear 1 near near; cubic 0 far near; cubic 1 near near"
