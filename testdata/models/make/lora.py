# LoRA adapters of the tiny GLM checkpoints, made and saved by PEFT, with the logits that PEFT computes with them.
import struct, sys
import torch
from transformers import GlmForCausalLM
from peft import LoraConfig, get_peft_model

def make(base, folder, seed, safe, **kw):
    model = GlmForCausalLM.from_pretrained(base, torch_dtype=torch.float32).eval()
    torch.manual_seed(seed)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **kw)).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name: p.normal_(0, 0.08)
    ids = [(i * 397 + 11) % 1024 for i in range(32)]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].float()
    model.save_pretrained(folder, safe_serialization=safe)
    open(f"{folder}/expected_logits.f32", "wb").write(logits.contiguous().numpy().astype("<f4").tobytes())
    base_logits = torch.frombuffer(bytearray(open(f"{base}/expected_logits.f32", "rb").read()), dtype=torch.float32)
    print(folder, (logits.flatten() - base_logits).abs().max().item())

root = sys.argv[1]
make(f"{root}/tiny-glm4-hf", f"{root}/tiny-glm4-hf-lora", 51, True, r=8, lora_alpha=16, use_rslora=True,
     rank_pattern={"down_proj": 3}, alpha_pattern={"o_proj": 4, r".*\.1\.self_attn\.q_proj": 40},
     target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj", "embed_tokens"])
make(f"{root}/tiny-glm-edge", f"{root}/tiny-glm-edge-lora", 52, False, r=4, lora_alpha=8,
     target_modules=["q_proj", "v_proj"])
