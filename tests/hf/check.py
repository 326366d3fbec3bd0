"""Exports checkpoints with glm2llama and loads them with stock transformers, without remote code.

    python check.py GLM2LLAMA_BINARY

Logits are held against those that the authors' own modelling code computed, token ids against those of the
original tokenizers. What needs files that are not in the repository is skipped with a message.
"""

import base64
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import sentencepiece
import tiktoken
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


def check_logits(model, out, golden, *options):
    """float32 logits of the exported model are the authors'."""
    export(model, out, "--dtype", "F32", "--max-shard-size", "1MB", *options)
    assert (out / "model.safetensors.index.json").exists(), "several shards"
    llama = AutoModelForCausalLM.from_pretrained(out, torch_dtype=torch.float32)
    assert type(llama) is LlamaForCausalLM
    ids = np.fromfile(model / "expected_ids.i32", dtype="<i4").astype("int64")
    expected = np.fromfile(golden / "expected_logits.f32", dtype="<f4").reshape(len(ids), -1)
    with torch.no_grad():
        logits = llama(torch.from_numpy(ids)[None]).logits[0].numpy()
    difference = np.abs(logits - expected).max()
    print(f"{out.name}: largest difference of a logit {difference:.1e}")
    assert difference < TOLERANCE, difference


def check_dtype(model, out):
    """Without --dtype the weights keep the checkpoint's type."""
    export(model, out)
    dtype = json.loads((model / "config.json").read_text()).get("torch_dtype", "float16")
    llama = AutoModelForCausalLM.from_pretrained(out, torch_dtype="auto")
    assert str(llama.dtype) == f"torch.{dtype}", llama.dtype


def with_tokenizer(model, folder):
    """The model itself or, where GLM-4's vocabulary would not fit, a copy with one of single bytes."""
    if (model / "tokenizer.model").exists():
        return model
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("tokenizer_config.json"), copy_function=shutil.copyfile)
    folder.chmod(0o755)
    lines = [base64.b64encode(bytes([byte])) + b" %d\n" % byte for byte in range(256)]
    (folder / "tokenizer.model").write_bytes(b"".join(lines))
    return folder


def tiny_checkpoint(folder, tokenizer, vocab):
    """A checkpoint with a real vocabulary and hardly any weights."""
    h, f, d = 8, 12, 8
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


def check_texts(name, hf, golden, pieces, encode, decode):
    """Texts give the ids of the original tokenizer, also with the prefix that it puts before them."""
    prefix = hf("").input_ids
    assert len(prefix) == 2, prefix

    def ids(text):
        # As the authors' tokenizer: the names of special tokens in a text are plain text.
        return hf(text, add_special_tokens=False, split_special_tokens=True).input_ids

    for case in golden["texts"]:
        assert ids(case["text"]) == case["ids"], (case, ids(case["text"]))
        assert hf(case["text"], split_special_tokens=True).input_ids == prefix + case["ids"], case
        assert hf.decode(case["ids"]) == decode(case["ids"]), (case, hf.decode(case["ids"]))
    texts = random_texts(pieces)
    different = [text for text in texts if ids(text) != encode(text)]
    print(f"{name}: {len(golden['texts'])} golden and {len(texts)} random texts, {len(different)} with other ids")
    assert not different, different[:3]


def check_chatglm3(out, tokenizer, golden):
    hf = AutoTokenizer.from_pretrained(out)
    original = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
    pieces = [original.id_to_piece(i).replace("▁", " ") for i in range(original.get_piece_size())
              if not (original.is_byte(i) or original.is_control(i) or original.is_unknown(i))]
    check_texts("ChatGLM3's vocabulary", hf, golden, pieces, original.encode, original.decode)
    for case in golden["chats"]:
        found = hf.apply_chat_template(case["messages"], add_generation_prompt=True)
        assert found == case["ids"], (case, found)
    print(f"ChatGLM3's vocabulary: {len(golden['chats'])} chats")
    config, generation = AutoConfig.from_pretrained(out), GenerationConfig.from_pretrained(out)
    assert generation.eos_token_id == config.eos_token_id == [2, 64795, 64797], generation
    assert (hf.eos_token_id, hf.pad_token_id, hf.model_max_length) == (2, 0, 8192)


def check_glm4(out, tokenizer, golden):
    hf = AutoTokenizer.from_pretrained(out)
    lines = (line.split() for line in tokenizer.read_bytes().splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    original = tiktoken.Encoding("glm4", pat_str=GLM4_WORDS, mergeable_ranks=ranks, special_tokens={})
    pieces = [token.decode("utf-8") for token in ranks if is_text(token)]
    check_texts("GLM-4's vocabulary", hf, golden, pieces, original.encode_ordinary, original.decode)
    assert hf.convert_ids_to_tokens(hf("").input_ids) == ["[gMASK]", "<sop>"]
    found = hf.apply_chat_template([{"role": "user", "content": "你好"}], add_generation_prompt=True)
    names = ["[gMASK]", "<sop>", "<|user|>", "<|assistant|>"]
    mask, sop, user, assistant = hf.convert_tokens_to_ids(names)
    assert found == [mask, sop, user, *original.encode_ordinary("\n你好"), assistant], found
    print("GLM-4's vocabulary: a chat")


# The authors' own, in tokenization_chatglm.py.
GLM4_WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
              r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def is_text(token):
    try:
        return bool(token.decode("utf-8"))
    except UnicodeDecodeError:
        return False


def random_texts(pieces, count=20000):
    """Pieces of the vocabulary in a random order: every merge is tried."""
    rng = random.Random(1)
    return ["".join(rng.choices(pieces, k=rng.randint(1, 20))) for _ in range(count)]


def main():
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        models = {path.parent.name: path.parent for folder in (SHARED / "golden/models", ROOT / "testdata/models")
                  for path in sorted(folder.glob("*/expected_logits.f32"))}
        for name, golden in models.items():
            adapter = ["--lora", golden] if name.endswith("-lora") else []
            base = models[name.removesuffix("-lora")]
            model = with_tokenizer(base, scratch / f"{name}-source")
            check_logits(model, scratch / name, golden, *adapter)
            if not adapter:
                check_dtype(model, scratch / f"{name}-as-it-is")
        vocabularies = [("chatglm3.model", "chatglm3", 65024, "chatglm3-6b", check_chatglm3),
                        ("glm4.tiktoken", "glm4", 151552, "glm-4-9b-chat", check_glm4)]
        for file, name, size, family, check in vocabularies:
            tokenizer, golden = SHARED / "data/tokenizer" / file, SHARED / f"golden/{name}_tokens.json"
            if not tokenizer.exists() or not golden.exists():
                print(f"{name}: skipped, there is no {tokenizer}")
                continue
            model = scratch / f"{name}-vocabulary"
            tiny_checkpoint(model, tokenizer, size)
            for small in ("tokenizer_config.json", "generation_config.json"):
                if (SHARED / "data/family" / family / small).exists():
                    (model / small).write_bytes((SHARED / "data/family" / family / small).read_bytes())
            out = export(model, scratch / f"{name}-vocabulary-llama")
            check(out, tokenizer, json.loads(golden.read_text()))


main()
