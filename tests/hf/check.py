"""Exports checkpoints with glm2llama and loads them with stock transformers, without remote code.

    python check.py GLM2LLAMA_BINARY

Logits are held against those that the authors' own modelling code computed, token ids against those of the
original tokenizers. What needs files that are not in the repository is skipped with a message.
"""

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from safetensors.numpy import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
TOLERANCE = 1e-4


def export(model, out, *more):
    subprocess.run([sys.argv[1], "export-hf", "--quiet", model, out, *more], check=True)
    return out


def check_logits(model, out):
    """float32 logits of the exported model are the authors'."""
    export(model, out, "--dtype", "F32", "--max-shard-size", "1MB")
    assert (out / "model.safetensors.index.json").exists(), "several shards"
    llama = AutoModelForCausalLM.from_pretrained(out, torch_dtype=torch.float32)
    assert type(llama) is LlamaForCausalLM
    ids = np.fromfile(model / "expected_ids.i32", dtype="<i4").astype("int64")
    expected = np.fromfile(model / "expected_logits.f32", dtype="<f4").reshape(len(ids), -1)
    with torch.no_grad():
        logits = llama(torch.from_numpy(ids)[None]).logits[0].numpy()
    difference = np.abs(logits - expected).max()
    print(f"{model.name}: largest difference of a logit {difference:.1e}")
    assert difference < TOLERANCE, difference


def check_dtype(model, out):
    """Without --dtype the weights keep the checkpoint's type."""
    export(model, out)
    dtype = json.loads((model / "config.json").read_text()).get("torch_dtype", "float16")
    llama = AutoModelForCausalLM.from_pretrained(out, torch_dtype="auto")
    assert str(llama.dtype) == f"torch.{dtype}", llama.dtype


def tiny_chatglm3(folder, tokenizer):
    """A checkpoint with the real vocabulary and hardly any weights."""
    vocab, h, f, d = 65024, 8, 12, 8
    config = dict(model_type="chatglm", add_bias_linear=False, add_qkv_bias=True, ffn_hidden_size=f, hidden_size=h,
                  kv_channels=d, multi_query_attention=True, multi_query_group_num=1, num_attention_heads=1,
                  num_layers=1, padded_vocab_size=vocab, seq_length=8192, layernorm_epsilon=1e-5)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.model").write_bytes(tokenizer.read_bytes())
    layer = "transformer.encoder.layers.0."
    shapes = {
        "transformer.embedding.word_embeddings.weight": [vocab, h],
        layer + "input_layernorm.weight": [h],
        layer + "self_attention.query_key_value.weight": [3 * d, h],
        layer + "self_attention.query_key_value.bias": [3 * d],
        layer + "self_attention.dense.weight": [h, d],
        layer + "post_attention_layernorm.weight": [h],
        layer + "mlp.dense_h_to_4h.weight": [2 * f, h],
        layer + "mlp.dense_4h_to_h.weight": [h, f],
        "transformer.encoder.final_layernorm.weight": [h],
        "transformer.output_layer.weight": [vocab, h],
    }
    save_file({name: np.zeros(shape, "float16") for name, shape in shapes.items()}, folder / "model.safetensors")


def check_tokens(out, tokenizer, golden):
    """Texts and chats give the ids of the original tokenizer."""
    hf = AutoTokenizer.from_pretrained(out)
    original = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
    prefix = hf("").input_ids
    assert len(prefix) == 2, prefix

    def ids(text):
        # As the authors' tokenizer: the names of special tokens in a text are plain text.
        return hf(text, add_special_tokens=False, split_special_tokens=True).input_ids

    for case in golden["texts"]:
        assert ids(case["text"]) == case["ids"], (case, ids(case["text"]))
        assert hf(case["text"], split_special_tokens=True).input_ids == prefix + case["ids"], case
        assert hf.decode(case["ids"]) == original.decode(case["ids"]), (case, hf.decode(case["ids"]))
    for case in golden["chats"]:
        found = hf.apply_chat_template(case["messages"], add_generation_prompt=True)
        assert found == case["ids"], (case, found)

    texts = random_texts(original)
    different = [text for text in texts if ids(text) != original.encode(text)]
    print(f"real vocabulary: {len(golden['texts'])} texts, {len(golden['chats'])} chats and "
          f"{len(texts)} random texts, {len(different)} with other ids")
    assert not different, different[:3]

    config, generation = AutoConfig.from_pretrained(out), GenerationConfig.from_pretrained(out)
    assert generation.eos_token_id == config.eos_token_id == [2, 64795, 64797], generation
    assert (hf.eos_token_id, hf.pad_token_id, hf.model_max_length) == (2, 0, 8192)


def random_texts(original, count=20000):
    """Pieces of the vocabulary in a random order: every merge is tried."""
    rng = random.Random(1)
    pieces = [original.id_to_piece(i).replace("▁", " ") for i in range(original.get_piece_size())
              if not (original.is_byte(i) or original.is_control(i) or original.is_unknown(i))]
    return ["".join(rng.choices(pieces, k=rng.randint(1, 20))) for _ in range(count)]


def main():
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        models = {path.parent.name: path.parent for folder in (SHARED / "golden/models", ROOT / "testdata/models")
                  for path in sorted(folder.glob("*/expected_logits.f32"))}
        for name, model in models.items():
            if not (model / "tokenizer.model").exists() or not list(model.glob("*.safetensors")):
                print(f"{name}: skipped, it has no tokenizer or no safetensors")
                continue
            check_logits(model, scratch / name)
            check_dtype(model, scratch / f"{name}-as-it-is")
        tokenizer, golden = SHARED / "data/tokenizer/chatglm3.model", SHARED / "golden/chatglm3_tokens.json"
        if tokenizer.exists() and golden.exists():
            tiny_chatglm3(scratch / "real-vocabulary", tokenizer)
            out = export(scratch / "real-vocabulary", scratch / "real-vocabulary-llama")
            check_tokens(out, tokenizer, json.loads(golden.read_text()))
        else:
            print(f"real vocabulary: skipped, there is no {tokenizer}")


main()
