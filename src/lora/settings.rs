//! The keys of `adapter_config.json`, of the PEFT library's and of ms-swift's: which may be there, and which may not.

/// Settings that say how the adapter was trained, or where; they change nothing in what it adds.
pub(super) const HARMLESS: [&str; 28] = [
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "lora_dtype",
    "lorap_emb_lr",
    "lorap_lr_ratio",
    "megatron_core",
    "model_key_mapping",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "swift_type",
    "target_modules",
    "task_type",
    "use_rslora",
];

/// What is more than LoRA, and why it cannot be merged.
pub(super) const REFUSED: [(&str, &str); 10] = [
    ("fan_in_fan_out", "false: no matrix of this family is stored transposed"),
    ("use_dora", "false: DoRA rescales whole rows, which is more than adding B·A"),
    ("modules_to_save", "none: it replaces whole modules, which is more than adding B·A"),
    ("lora_bias", "false: the Llama layout has no place for a bias on every matrix"),
    ("layer_replication", "none: it changes the number of layers"),
    ("trainable_token_indices", "none: it replaces rows of the embedding"),
    ("use_merged_linear", "false: convert it with `swift export --ckpt_dir ... --to_peft_format true`"),
    ("enable_lora", "none: it trains parts of a fused matrix only"),
    ("use_qa_lora", "false: it was trained for a quantized model's own weights"),
    ("target_parameters", "none: this family's weights all belong to modules"),
];

/// Ways to start training that take the first B·A out of the base weights.
pub(super) const CHANGES_BASE: [&str; 4] = ["pissa", "olora", "corda", "loftq"];

const PREFIX: &str = "a trained prefix has no place in the Llama layout, train LoRA instead";

/// Adapters of other kinds, and what to do with them.
pub(super) const KINDS: [(&str, &str); 12] = [
    ("PREFIX_TUNING", PREFIX),
    ("P_TUNING", PREFIX),
    ("PROMPT_TUNING", PREFIX),
    ("MULTITASK_PROMPT_TUNING", PREFIX),
    ("CPT", PREFIX),
    ("ADAPTION_PROMPT", PREFIX),
    ("ADALORA", MERGE),
    ("IA3", MERGE),
    ("LOHA", MERGE),
    ("LOKR", MERGE),
    ("OFT", MERGE),
    ("BOFT", MERGE),
];

pub(super) const MERGE: &str =
    "it is no plain LoRA: merge it with PEFT (merge_and_unload, then save_pretrained) and convert the result";
