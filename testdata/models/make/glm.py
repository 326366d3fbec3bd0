# Tiny random GLM checkpoints in the transformers format, with logits by transformers itself, in float32.
import json, os, struct, sys
import torch
from transformers import GlmConfig, GlmForCausalLM
from safetensors.torch import save_file

def make(folder, seed, dtype, how, **kw):
    torch.manual_seed(seed)
    config = GlmConfig(hidden_act="silu", attention_dropout=0.0, torch_dtype=dtype,
                       pad_token_id=1000, eos_token_id=[1000, 1005, 1007], bos_token_id=None, **kw)
    model = GlmForCausalLM(config).float().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("bias"): p.normal_(0, 0.3)
            elif "norm" in name: p.normal_(1, 0.1)
            else: p.normal_(0, 0.06)
            p.copy_(p.to(dtype).float())
    ids = [(i * 397 + 11) % config.vocab_size for i in range(32)]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].float()
    os.makedirs(folder, exist_ok=True)
    text = json.loads(config.to_json_string())
    text["architectures"] = ["GlmForCausalLM"]
    json.dump(text, open(f"{folder}/config.json", "w"), indent=2)
    open(f"{folder}/expected_ids.i32", "wb").write(struct.pack(f"<{len(ids)}i", *ids))
    open(f"{folder}/expected_logits.f32", "wb").write(logits.contiguous().numpy().astype("<f4").tobytes())
    model = model.to(dtype)
    state = model.state_dict()
    if how == "safetensors":
        if config.tie_word_embeddings: state.pop("lm_head.weight")
        save_file({k: v.contiguous() for k, v in state.items()}, f"{folder}/model.safetensors", metadata={"format": "pt"})
    else:
        torch.save(state, f"{folder}/pytorch_model.bin")
    print(folder, logits.std().item(), list(state)[:12])

root = sys.argv[1]
make(f"{root}/tiny-glm4-hf", 41, torch.bfloat16, "safetensors", vocab_size=1024, hidden_size=128, intermediate_size=176,
     num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=32, partial_rotary_factor=0.5,
     rope_theta=5000000.0, rms_norm_eps=1.5625e-07, attention_bias=True, max_position_embeddings=131072, tie_word_embeddings=False)
make(f"{root}/tiny-glm-edge", 42, torch.float16, "bin", vocab_size=1024, hidden_size=128, intermediate_size=176,
     num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=32, partial_rotary_factor=1.0,
     rope_theta=10000.0, rms_norm_eps=1e-05, attention_bias=False, max_position_embeddings=8192, tie_word_embeddings=True)
