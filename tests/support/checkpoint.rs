//! Makes ChatGLM checkpoints up: any shape, random weights, the same for the same seed.
//!
//! Shares no code with the converter. It streams, so a full-size checkpoint (12.5 GB) needs little
//! memory: one block of normal random weights is drawn, and every tensor reads it round and round from
//! its own place on. `examples/synthetic.rs` uses this file too.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Value, json};

/// A ChatGLM checkpoint that can be written.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// `_name_or_path`.
    pub name: String,
    pub layers: usize,
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub ffn: usize,
    pub vocab: usize,
    pub seq_length: usize,
    pub qkv_bias: bool,
    /// `multi_query_attention: false`: as many key heads as query heads, and rows grouped by head.
    pub qkv_by_head: bool,
    /// Left out of `config.json` when `None`, as in ChatGLM3-6B.
    pub rope_ratio: Option<f64>,
    /// F16, BF16 or F32.
    pub dtype: Dtype,
    /// Starts a new shard before this many bytes are exceeded; `None` writes one file and no index.
    pub shard_bytes: Option<usize>,
    /// Standard deviation of the weights.
    pub sigma: f64,
    pub seed: u64,
}

/// What a tensor is filled with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fill {
    Weights,
    /// Normal random numbers with this mean and deviation.
    Around(f64, f64),
    /// The rope's frequencies.
    Frequencies,
}

#[derive(Clone, Debug)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    fill: Fill,
}

impl Tensor {
    fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Checkpoint {
    /// Two layers, 0.7 million weights; fits the tokenizer of 900 pieces.
    pub fn tiny() -> Checkpoint {
        Checkpoint {
            name: "THUDM/chatglm3-6b".to_owned(),
            layers: 2,
            hidden: 256,
            heads: 8,
            kv_heads: 2,
            head_dim: 32,
            ffn: 160,
            vocab: 1024,
            seq_length: 8192,
            qkv_bias: true,
            qkv_by_head: false,
            rope_ratio: None,
            dtype: Dtype::F16,
            shard_bytes: None,
            sigma: 0.06, // about 1/sqrt(hidden): signals neither vanish nor explode
            seed: 1,
        }
    }

    /// ChatGLM3-6B's exact shapes and shards.
    pub fn chatglm3_6b() -> Checkpoint {
        Checkpoint {
            layers: 28,
            hidden: 4096,
            heads: 32,
            kv_heads: 2,
            head_dim: 128,
            ffn: 13696,
            vocab: 65024,
            shard_bytes: Some(2_000_000_000),
            sigma: 0.02,
            ..Checkpoint::tiny()
        }
    }

    /// Writes the checkpoint into a folder, which is made if need be.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(&self, folder: &Path, tokenizer: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("config.json"), serde_json::to_vec_pretty(&self.config())?)?;
        let tokenizer_config = serde_json::to_vec_pretty(&self.tokenizer_config())?;
        fs::write(folder.join("tokenizer_config.json"), tokenizer_config)?;
        fs::write(folder.join("tokenizer.model"), fs::read(tokenizer)?)?;

        let noise = Noise::new(self);
        let shards = self.shards();
        for (index, tensors) in shards.iter().enumerate() {
            self.write_shard(&folder.join(self.shard_name(index, shards.len())), tensors, &noise)?;
        }
        if self.shard_bytes.is_some() {
            let index = serde_json::to_vec_pretty(&self.index())?;
            fs::write(folder.join("model.safetensors.index.json"), index)?;
        }
        Ok(())
    }

    /// `config.json`, with all the fields of ChatGLM3-6B's.
    pub fn config(&self) -> Value {
        let mut config = json!({
            "_name_or_path": self.name,
            "model_type": "chatglm",
            "architectures": ["ChatGLMModel"],
            "auto_map": {
                "AutoConfig": "configuration_chatglm.ChatGLMConfig",
                "AutoModel": "modeling_chatglm.ChatGLMForConditionalGeneration",
            },
            "add_bias_linear": false,
            "add_qkv_bias": self.qkv_bias,
            "apply_query_key_layer_scaling": true,
            "apply_residual_connection_post_layernorm": false,
            "attention_dropout": 0.0,
            "attention_softmax_in_fp32": true,
            "bias_dropout_fusion": true,
            "ffn_hidden_size": self.ffn,
            "fp32_residual_connection": false,
            "hidden_dropout": 0.0,
            "hidden_size": self.hidden,
            "kv_channels": self.head_dim,
            "layernorm_epsilon": 1e-5,
            "multi_query_attention": !self.qkv_by_head,
            "multi_query_group_num": self.kv_heads,
            "num_attention_heads": self.heads,
            "num_layers": self.layers,
            "original_rope": true,
            "padded_vocab_size": self.vocab,
            "post_layer_norm": true,
            "rmsnorm": true,
            "seq_length": self.seq_length,
            "use_cache": true,
            "torch_dtype": match self.dtype {
                Dtype::F32 => "float32",
                Dtype::BF16 => "bfloat16",
                _ => "float16",
            },
            "transformers_version": "4.30.2",
            "tie_word_embeddings": false,
            "eos_token_id": 2,
            "pad_token_id": 0,
        });
        if let Some(ratio) = self.rope_ratio {
            config["rope_ratio"] = json!(ratio);
        }
        config
    }

    /// `tokenizer_config.json`, with ChatGLM3's published template.
    pub fn tokenizer_config(&self) -> Value {
        let turn = "<|{{ message['role'] }}|> \n {{ message['content'] }}";
        let first = format!("{{% if loop.first %}}[gMASK]sop{turn}{{% else %}}{turn}{{% endif %}}");
        let last = "{% if add_generation_prompt %}<|assistant|>{% endif %}";
        json!({
            "name_or_path": self.name,
            "remove_space": false,
            "do_lower_case": false,
            "tokenizer_class": "ChatGLMTokenizer",
            "chat_template": format!("{{% for message in messages %}}{first}{{% endfor %}}{last}"),
            "auto_map": { "AutoTokenizer": ["tokenization_chatglm.ChatGLMTokenizer", null] },
        })
    }

    /// `model.safetensors.index.json`.
    pub fn index(&self) -> Value {
        let shards = self.shards();
        let mut map = serde_json::Map::new();
        let mut bytes = 0;
        for (index, tensors) in shards.iter().enumerate() {
            for tensor in tensors {
                map.insert(tensor.name.clone(), json!(self.shard_name(index, shards.len())));
                bytes += tensor.len() * self.width();
            }
        }
        json!({ "metadata": { "total_size": bytes }, "weight_map": map })
    }

    fn width(&self) -> usize {
        self.dtype.bitsize() / 8
    }

    fn shard_name(&self, index: usize, count: usize) -> String {
        match self.shard_bytes {
            Some(_) => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
            None => "model.safetensors".to_owned(),
        }
    }

    /// The tensors in the order of the authors' state dict, which decides on the shards.
    fn tensors(&self) -> Vec<Tensor> {
        let (hidden, width) = (self.hidden, self.heads * self.head_dim);
        let kv_heads = if self.qkv_by_head { self.heads } else { self.kv_heads };
        let qkv = width + 2 * kv_heads * self.head_dim;
        let norm = Fill::Around(1.0, 0.1);
        let mut tensors = Vec::new();
        let mut add = |name: String, shape: &[usize], fill| {
            tensors.push(Tensor { name: format!("transformer.{name}"), shape: shape.to_vec(), fill });
        };
        add("embedding.word_embeddings.weight".into(), &[self.vocab, hidden], Fill::Weights);
        add("rotary_pos_emb.inv_freq".into(), &[self.head_dim / 4], Fill::Frequencies);
        for layer in 0..self.layers {
            let name = |part: &str| format!("encoder.layers.{layer}.{part}");
            add(name("input_layernorm.weight"), &[hidden], norm);
            add(name("self_attention.query_key_value.weight"), &[qkv, hidden], Fill::Weights);
            if self.qkv_bias {
                // Large enough for a dropped bias to be noticed.
                add(name("self_attention.query_key_value.bias"), &[qkv], Fill::Around(0.0, 0.3));
            }
            add(name("self_attention.dense.weight"), &[hidden, width], Fill::Weights);
            add(name("post_attention_layernorm.weight"), &[hidden], norm);
            add(name("mlp.dense_h_to_4h.weight"), &[2 * self.ffn, hidden], Fill::Weights);
            add(name("mlp.dense_4h_to_h.weight"), &[hidden, self.ffn], Fill::Weights);
        }
        add("encoder.final_layernorm.weight".into(), &[hidden], norm);
        add("output_layer.weight".into(), &[self.vocab, hidden], Fill::Weights);
        tensors
    }

    /// The tensors of each file, as `transformers` cuts them.
    fn shards(&self) -> Vec<Vec<Tensor>> {
        let limit = self.shard_bytes.unwrap_or(usize::MAX);
        let mut shards = vec![Vec::new()];
        let mut bytes = 0;
        for tensor in self.tensors() {
            let more = tensor.len() * self.width();
            if bytes + more > limit && bytes > 0 {
                shards.push(Vec::new());
                bytes = 0;
            }
            bytes += more;
            shards.last_mut().expect("at least one").push(tensor);
        }
        for shard in &mut shards {
            shard.sort_by(|a, b| a.name.cmp(&b.name)); // as the safetensors library does
        }
        shards
    }

    fn write_shard(&self, file: &Path, tensors: &[Tensor], noise: &Noise) -> io::Result<()> {
        let mut end = 0;
        let infos = tensors.iter().map(|tensor| {
            let start = end;
            end += tensor.len() * self.width();
            let info =
                TensorInfo { dtype: self.dtype, shape: tensor.shape.clone(), data_offsets: (start, end) };
            (tensor.name.clone(), info)
        });
        let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let header = Metadata::new(Some(format), infos.collect()).map_err(io::Error::other)?;
        let mut header = serde_json::to_vec(&header)?;
        header.resize(header.len().next_multiple_of(8), b' ');

        let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for tensor in tensors {
            self.write_tensor(tensor, noise, &mut out)?;
        }
        out.flush()
    }

    fn write_tensor(&self, tensor: &Tensor, noise: &Noise, out: &mut impl Write) -> io::Result<()> {
        // FNV-1a: the same place in the noise for the same name and seed, on every machine.
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let mut random = Random(tensor.name.bytes().fold(self.seed ^ 0xcbf2_9ce4_8422_2325, hash));
        match tensor.fill {
            Fill::Weights => noise.write(random.next(), tensor.len(), out),
            Fill::Around(mean, deviation) => {
                let values = (0..tensor.len()).map(|_| mean + deviation * random.normal());
                out.write_all(&encode(self.dtype, values))
            }
            Fill::Frequencies => {
                let rotated = self.head_dim as f64 / 2.0;
                let values = (0..tensor.len()).map(|i| 10000f64.powf(-2.0 * i as f64 / rotated));
                out.write_all(&encode(self.dtype, values))
            }
        }
    }
}

fn encode(dtype: Dtype, values: impl Iterator<Item = f64>) -> Vec<u8> {
    match dtype {
        Dtype::F16 => values.flat_map(|value| f16::from_f64(value).to_le_bytes()).collect(),
        Dtype::BF16 => values.flat_map(|value| bf16::from_f64(value).to_le_bytes()).collect(),
        Dtype::F32 => values.flat_map(|value| (value as f32).to_le_bytes()).collect(),
        other => panic!("no checkpoint holds {other:?}"),
    }
}

/// Normal random weights, drawn once.
struct Noise {
    bytes: Vec<u8>,
    width: usize,
}

impl Noise {
    /// Weights in the block: odd, so that no row length divides it and the rows of a matrix differ.
    const LEN: usize = (1 << 20) + 1;

    fn new(checkpoint: &Checkpoint) -> Noise {
        let mut random = Random(checkpoint.seed);
        let values = (0..Noise::LEN).map(|_| checkpoint.sigma * random.normal());
        Noise { bytes: encode(checkpoint.dtype, values), width: checkpoint.width() }
    }

    /// Writes `len` weights, from a place in the block on, round and round.
    fn write(&self, place: u64, len: usize, out: &mut impl Write) -> io::Result<()> {
        let mut start = (place % Noise::LEN as u64) as usize;
        let mut left = len;
        while left > 0 {
            let end = Noise::LEN.min(start + left);
            out.write_all(&self.bytes[start * self.width..end * self.width])?;
            left -= end - start;
            start = 0;
        }
        Ok(())
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// More than 0, at most 1.
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Box and Muller's method.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}
