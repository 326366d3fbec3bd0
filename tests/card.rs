//! `convert --card`: the model card to upload, end to end.

use std::fs;
use std::path::Path;

use crate::support::{Checkpoint, Cmd, Dir, testdata, tiny_tokenizer};
use sha2::{Digest, Sha256};

fn model(folder: &Path) {
    Checkpoint::tiny().write(folder, &tiny_tokenizer()).expect("written");
}

fn convert(folder: &Dir, model: &Path, more: &[&str]) -> Cmd {
    let run = Cmd::new("convert").arg(model).current_dir(folder.path()).env("HOME", folder.path());
    run.args(&["--output", "m-{type}.gguf", "--card", "README.md"]).args(more)
}

fn sha256(file: &Path) -> String {
    let hash = Sha256::digest(fs::read(file).expect("it is there"));
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The cells of the table's rows.
fn rows(card: &str) -> Vec<Vec<&str>> {
    let lines = card.lines().filter(|line| line.starts_with("| m-"));
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn each_file_has_a_row_with_its_hash_and_its_quality_if_it_was_verified() {
    let folder = Dir::new();
    let tiny = testdata("models/tiny-chatglm3");
    let output = convert(&folder, &tiny, &["--type", "Q4_K_M,Q8_0", "--verify"]).succeed();
    assert!(output.stderr.contains("names no licence"), "{}", output.stderr);
    let card = fs::read_to_string(folder.join("README.md")).expect("a card");
    let rows = rows(&card);
    assert_eq!(rows.len(), 2, "{card}");
    for (row, name) in rows.iter().zip(["Q4_K_M", "Q8_0"]) {
        let file = format!("m-{name}.gguf");
        assert_eq!(row[..2], [file.as_str(), name]);
        // Random weights cannot be graded, and the card says so.
        assert!(row[4].starts_with("no judgement: "), "{card}");
        assert_eq!(row[5], format!("`{}`", sha256(&folder.join(&file))));
    }
    assert!(card.starts_with("---\nlibrary_name: gguf\n"), "{card}");
    assert!(card.contains("ollama create m-q4_k_m -f m-Q4_K_M.Modelfile\n"), "{card}");
    assert!(card.contains("<|system|>\n {system message}<|user|>\n {question}<|assistant|>"), "{card}");

    // What is there stays, and without --verify nothing is said of the quality.
    let again = convert(&folder, &tiny, &["--type", "F16"]).exit_with(2);
    assert!(again.stderr.contains("README.md: exists already"), "{}", again.stderr);
    assert!(!folder.join("m-F16.gguf").exists());
    convert(&folder, &tiny, &["--type", "Q8_0", "--force"]).succeed();
    let card = fs::read_to_string(folder.join("README.md")).expect("a card");
    assert!(!card.contains("Quality") && !card.contains("compared"), "{card}");
    assert_eq!(self::rows(&card)[0][4], format!("`{}`", sha256(&folder.join("m-Q8_0.gguf"))));
}

#[test]
fn parts_of_a_split_file_have_rows_of_their_own_and_the_receipt_the_same_hashes() {
    let folder = Dir::new();
    let more = ["--type", "F16", "--split-max-size", "200K", "--receipt", "r.json"];
    convert(&folder, &testdata("models/tiny-chatglm3"), &more).succeed();
    let card = fs::read_to_string(folder.join("README.md")).expect("a card");
    let receipt = fs::read_to_string(folder.join("r.json")).expect("a receipt");
    let rows = rows(&card);
    assert!(rows.len() > 1, "{card}");
    for row in rows {
        let hash = sha256(&folder.join(row[0]));
        assert!(row[4].contains(&hash) && receipt.contains(&hash), "{card}");
    }
    assert!(!card.contains("ollama create"), "{card}");
}

#[test]
fn what_the_checkpoint_says_of_itself_is_copied() {
    let folder = Dir::new();
    let snapshot = folder.join(".cache/huggingface/hub/models--me--my-tune/snapshots/0123abcd");
    fs::create_dir_all(&snapshot).expect("a folder");
    model(&snapshot);
    let own =
        "---\nlicense: other\nlicense_name: mine\nlicense_link: LICENSE\nlanguage: [zh, en]\n---\n# Tune\n";
    fs::write(snapshot.join("README.md"), own).expect("written");
    fs::write(snapshot.join("LICENSE"), "My own\n").expect("written");
    let before = fs::read(snapshot.join("README.md")).expect("read");

    let expected = "---\nbase_model: me/my-tune\nbase_model_relation: quantized\nlicense: other\nlicense_name: mine\n\
                    license_link: https://huggingface.co/me/my-tune/blob/main/LICENSE\nlanguage:\n- zh\n- en\n";
    for model in [Path::new("me/my-tune"), &snapshot] {
        let run = convert(&folder, model, &["--force"]).env_remove("HF_HUB_CACHE").env_remove("HF_HOME");
        let output = run.env_remove("HUGGINGFACE_HUB_CACHE").env_remove("XDG_CACHE_HOME").succeed();
        assert!(!output.stderr.contains("licence"), "{}", output.stderr);
        let card = fs::read_to_string(folder.join("README.md")).expect("a card");
        assert!(card.starts_with(expected), "{card}");
        assert!(card.contains("the file LICENSE of the checkpoint (\"My own\")"), "{card}");
    }

    // The checkpoint's own card is never written over.
    let own = snapshot.join("README.md");
    let run = Cmd::new("convert").arg(&snapshot).args(&["--force", "--output", "x.gguf", "--card"]).arg(&own);
    let output = run.current_dir(folder.path()).exit_with(2);
    assert!(output.stderr.contains("a file that this run reads"), "{}", output.stderr);
    assert_eq!(fs::read(&own).expect("read"), before);
    // Nor its licence, which the card is made of.
    let licence = snapshot.join("LICENSE");
    let run =
        Cmd::new("convert").arg(&snapshot).args(&["--force", "--output", "x.gguf", "--card"]).arg(&licence);
    let output = run.current_dir(folder.path()).exit_with(2);
    assert!(output.stderr.contains("a file that this run reads"), "{}", output.stderr);
}
