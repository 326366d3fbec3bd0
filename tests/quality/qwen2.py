#!/usr/bin/env python3
"""A second trained model for `make quality MODEL=OUT_DIR`: any GGUF of Qwen2's architecture in the layout of GlmForCausalLM.

usage: qwen2.py MODEL.gguf OUT_DIR      (needs what requirements.txt names)

Qwen2 has what GLM-4 has, biases of q, k and v too, and rotates whole heads, which this layout can say. Its halves of a head
that are rotated together become neighbours; the channels are widened to whole super-blocks with zeros, which the norms'
weights and epsilon make up for. Channels are permuted and value heads rotated, which changes nothing that is computed, so
that the blocks in which the GGUF had its weights are mixed. ChatML's tokens get the names of GLM-4's.
"""

import sys
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import save_file

from trained import vocabulary, write_json, write_tokenizer


def main(gguf, out):
    out.mkdir(parents=True, exist_ok=True)
    reader = GGUFReader(gguf)
    key = lambda name: reader.fields[name].contents()
    size = lambda name: key(f"qwen2.{name}")
    named = {tensor.name: tensor for tensor in reader.tensors}
    read = lambda name: dequantize(named[name].data, named[name].tensor_type).astype(np.float32)
    layers, hidden, ffn = size("block_count"), size("embedding_length"), size("feed_forward_length")
    heads, groups = size("attention.head_count"), size("attention.head_count_kv")
    wide, head = -(-hidden // 256) * 256, hidden // heads
    # Rows that no token has stand at the end.
    used = [(token, kind) for token, kind in zip(key("tokenizer.ggml.tokens"), key("tokenizer.ggml.token_type")) if kind != 5]
    pieces, special, rows = vocabulary(*zip(*used))
    ends = write_tokenizer(out, pieces, special, size("context_length"))

    chance = np.random.default_rng(20261129)
    order = chance.permutation(hidden)
    places = np.sort(chance.permutation(wide)[:hidden])

    def columns(matrix):
        widened = np.zeros((len(matrix), wide), np.float32)
        widened[:, places] = matrix[:, order]
        return widened

    neighbours = np.arange(head).reshape(2, head // 2).T.reshape(-1)
    rotated = lambda matrix, count: matrix.reshape(count, head, -1)[:, neighbours].reshape(count * head, -1)
    norm = lambda weights: columns(weights[None])[0] * np.float32(np.sqrt(hidden / wide))
    f16 = lambda array: np.ascontiguousarray(array).astype(np.float16)
    # Where the embedding is the output layer too, a GGUF may have both, the latter in more bits.
    embedding = "output.weight" if "output.weight" in named else "token_embd.weight"
    tensors = {"model.embed_tokens.weight": f16(columns(read(embedding)[rows])), "model.norm.weight": f16(norm(read("output_norm.weight")))}
    for layer in range(layers):
        old, new = (lambda name: read(f"blk.{layer}.{name}")), f"model.layers.{layer}."
        channels = chance.permutation(ffn)
        turn = np.stack([np.linalg.qr(chance.standard_normal((head, head)))[0] for _ in range(groups)]).astype(np.float32)
        values = np.einsum("gij,gjk->gik", turn, old("attn_v.weight").reshape(groups, head, hidden)).reshape(-1, hidden)
        output = columns(old("attn_output.weight").T).T.reshape(wide, groups, heads // groups, head)
        tensors |= {
            new + "self_attn.q_proj.weight": f16(columns(rotated(old("attn_q.weight"), heads))),
            new + "self_attn.q_proj.bias": f16(rotated(old("attn_q.bias"), heads)[:, 0]),
            new + "self_attn.k_proj.weight": f16(columns(rotated(old("attn_k.weight"), groups))),
            new + "self_attn.k_proj.bias": f16(rotated(old("attn_k.bias"), groups)[:, 0]),
            new + "self_attn.v_proj.weight": f16(columns(values)),
            new + "self_attn.v_proj.bias": f16(np.einsum("gij,gj->gi", turn, old("attn_v.bias").reshape(groups, head)).reshape(-1)),
            new + "self_attn.o_proj.weight": f16(np.einsum("wgnj,gij->wgni", output, turn).reshape(wide, -1)),
            new + "input_layernorm.weight": f16(norm(old("attn_norm.weight"))),
            new + "post_attention_layernorm.weight": f16(norm(old("ffn_norm.weight"))),
            new + "mlp.gate_up_proj.weight": f16(np.concatenate([columns(old(name))[channels] for name in ("ffn_gate.weight", "ffn_up.weight")])),
            new + "mlp.down_proj.weight": f16(columns(old("ffn_down.weight").T).T[:, channels]),
        }
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})

    write_json(out / "config.json", ends | dict(
        architectures=["GlmForCausalLM"], model_type="glm", attention_bias=True, head_dim=head, hidden_act="silu", hidden_size=wide,
        intermediate_size=ffn, max_position_embeddings=size("context_length"), num_attention_heads=heads, num_hidden_layers=layers,
        num_key_value_heads=groups, partial_rotary_factor=1.0, rope_theta=size("rope.freq_base"), tie_word_embeddings=True,
        rms_norm_eps=float(np.float32(size("attention.layer_norm_rms_epsilon"))) * hidden / wide, torch_dtype="float16", vocab_size=len(rows)))
    print(f"{out}: {sum(tensor.nbytes for tensor in tensors.values()) / 1e6:.0f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
